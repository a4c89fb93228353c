// RUN: tinymlir-opt %s --split-input-file --tiny-fold-biases | FileCheck %s
// RUN: tinymlir-opt %s --split-input-file --tiny-fold-biases=most-pixels=2 | FileCheck %s --check-prefix=FEW

#id = affine_map<(d0, d1) -> (d0, d1)>
#channel = affine_map<(d0, d1) -> (d1)>

// Sums begin with zeros; with a fraction, their biases are their offsets.
// CHECK-LABEL: func.func private @dense
// CHECK: %[[NONE:.*]] = arith.constant dense<0> : tensor<2xi32>
// CHECK: linalg.broadcast ins(%[[NONE]] : tensor<2xi32>)
// CHECK: %[[UP:.*]] = arith.shli %{{.*}}, %{{.*}} : i32
// CHECK: %[[SUM:.*]] = arith.addi %[[UP]], %{{.*}} : i32
// CHECK: "tiny.rescale"(%[[SUM]], %{{.*}}, %c0_i32) {max = 127 : i32, min = -128 : i32, shift = 47 : i32}
// Too many pixels for what each of them would pay.
// FEW-LABEL: func.func private @dense
// FEW-NOT: arith.shli
// FEW: "tiny.rescale"({{.*}}shift = 39 : i32}
func.func private @dense(%x: tensor<3x4xi8>) -> tensor<3x2xi8> attributes {tiny.layer = "q"} {
  %w = arith.constant dense<[[1, -2], [3, 4], [-5, 6], [7, 100]]> : tensor<4x2xi8>
  %b = arith.constant dense<[8, 10]> : tensor<2xi32>
  %m = arith.constant dense<[1717986918, 644245094]> : tensor<2xi32>
  %o = arith.constant dense<[-16320, -16317]> : tensor<2xi32>
  %e32 = tensor.empty() : tensor<3x2xi32>
  %start = linalg.broadcast ins(%b : tensor<2xi32>) outs(%e32 : tensor<3x2xi32>) dimensions = [0]
  %acc = linalg.matmul ins(%x, %w : tensor<3x4xi8>, tensor<4x2xi8>) outs(%start : tensor<3x2xi32>) -> tensor<3x2xi32>
  %e = tensor.empty() : tensor<3x2xi8>
  %q = linalg.generic {indexing_maps = [#id, #channel, #channel, #id], iterator_types = ["parallel", "parallel"]}
      ins(%acc, %m, %o : tensor<3x2xi32>, tensor<2xi32>, tensor<2xi32>) outs(%e : tensor<3x2xi8>) {
  ^bb0(%a: i32, %mc: i32, %oc: i32, %unused: i8):
    %r = "tiny.rescale"(%a, %mc, %oc) {max = 127 : i32, min = -128 : i32, shift = 39 : i32} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<3x2xi8>
  return %q : tensor<3x2xi8>
}

// -----

#id = affine_map<(d0, d1) -> (d0, d1)>
#channel = affine_map<(d0, d1) -> (d1)>

// One offset for all is two constants a channel already.
// CHECK-LABEL: func.func private @one_offset
// CHECK-NOT: arith.shli
// CHECK: "tiny.rescale"({{.*}}shift = 39 : i32}
func.func private @one_offset(%x: tensor<3x4xi8>) -> tensor<3x2xi8> attributes {tiny.layer = "q"} {
  %w = arith.constant dense<[[1, -2], [3, 4], [-5, 6], [7, 100]]> : tensor<4x2xi8>
  %b = arith.constant dense<[8, 10]> : tensor<2xi32>
  %m = arith.constant dense<[1717986918, 644245094]> : tensor<2xi32>
  %o = arith.constant -16320 : i32
  %e32 = tensor.empty() : tensor<3x2xi32>
  %start = linalg.broadcast ins(%b : tensor<2xi32>) outs(%e32 : tensor<3x2xi32>) dimensions = [0]
  %acc = linalg.matmul ins(%x, %w : tensor<3x4xi8>, tensor<4x2xi8>) outs(%start : tensor<3x2xi32>) -> tensor<3x2xi32>
  %e = tensor.empty() : tensor<3x2xi8>
  %q = linalg.generic {indexing_maps = [#id, #channel, #id], iterator_types = ["parallel", "parallel"]}
      ins(%acc, %m : tensor<3x2xi32>, tensor<2xi32>) outs(%e : tensor<3x2xi8>) {
  ^bb0(%a: i32, %mc: i32, %unused: i8):
    %r = "tiny.rescale"(%a, %mc, %o) {max = 127 : i32, min = -128 : i32, shift = 39 : i32} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<3x2xi8>
  return %q : tensor<3x2xi8>
}

// -----

#id = affine_map<(d0, d1) -> (d0, d1)>
#channel = affine_map<(d0, d1) -> (d1)>

// Accumulators of something else than a convolution have no biases.
// CHECK-LABEL: func.func private @given
// CHECK-NOT: arith.shli
// CHECK: tiny.rescale
func.func private @given(%acc: tensor<3x2xi32>) -> tensor<3x2xi8> attributes {tiny.layer = "p"} {
  %m = arith.constant dense<[1717986918, 644245094]> : tensor<2xi32>
  %o = arith.constant dense<[-16320, -16317]> : tensor<2xi32>
  %e = tensor.empty() : tensor<3x2xi8>
  %q = linalg.generic {indexing_maps = [#id, #channel, #channel, #id], iterator_types = ["parallel", "parallel"]}
      ins(%acc, %m, %o : tensor<3x2xi32>, tensor<2xi32>, tensor<2xi32>) outs(%e : tensor<3x2xi8>) {
  ^bb0(%a: i32, %mc: i32, %oc: i32, %unused: i8):
    %r = "tiny.rescale"(%a, %mc, %oc) {max = 127 : i32, min = -128 : i32, shift = 39 : i32} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<3x2xi8>
  return %q : tensor<3x2xi8>
}

// -----

#id = affine_map<(d0, d1) -> (d0, d1)>
#channel = affine_map<(d0, d1) -> (d1)>

// Late accumulators are then those of sums that begin with nothing; one that is none stays.
// CHECK-LABEL: func.func private @late
// CHECK: %[[ACC:.*]] = linalg.matmul
// CHECK: %[[AT:.*]] = arith.constant dense<[-2147483648, 290]> : tensor<2xi32>
// CHECK: %[[NEXT:.*]] = linalg.generic {{.*}} ins(%[[ACC]], %[[AT]] : tensor<3x2xi32>, tensor<2xi32>)
// CHECK: "tiny.step_over"
// CHECK: linalg.generic {{.*}} ins(%[[NEXT]],
// CHECK: arith.shli
// CHECK: "tiny.rescale"
func.func private @late(%x: tensor<3x4xi8>) -> tensor<3x2xi8> attributes {tiny.layer = "q"} {
  %w = arith.constant dense<[[1, -2], [3, 4], [-5, 6], [7, 100]]> : tensor<4x2xi8>
  %b = arith.constant dense<[8, 10]> : tensor<2xi32>
  %m = arith.constant dense<[1717986918, 644245094]> : tensor<2xi32>
  %o = arith.constant dense<[-16320, -16317]> : tensor<2xi32>
  %late = arith.constant dense<[-2147483648, 300]> : tensor<2xi32>
  %e32 = tensor.empty() : tensor<3x2xi32>
  %start = linalg.broadcast ins(%b : tensor<2xi32>) outs(%e32 : tensor<3x2xi32>) dimensions = [0]
  %acc = linalg.matmul ins(%x, %w : tensor<3x4xi8>, tensor<4x2xi8>) outs(%start : tensor<3x2xi32>) -> tensor<3x2xi32>
  %next = linalg.generic {indexing_maps = [#id, #channel, #id], iterator_types = ["parallel", "parallel"]}
      ins(%acc, %late : tensor<3x2xi32>, tensor<2xi32>) outs(%e32 : tensor<3x2xi32>) {
  ^bb0(%a: i32, %at: i32, %unused: i32):
    %r = "tiny.step_over"(%a, %at) : (i32, i32) -> i32
    linalg.yield %r : i32
  } -> tensor<3x2xi32>
  %e = tensor.empty() : tensor<3x2xi8>
  %q = linalg.generic {indexing_maps = [#id, #channel, #channel, #id], iterator_types = ["parallel", "parallel"]}
      ins(%next, %m, %o : tensor<3x2xi32>, tensor<2xi32>, tensor<2xi32>) outs(%e : tensor<3x2xi8>) {
  ^bb0(%a: i32, %mc: i32, %oc: i32, %unused: i8):
    %r = "tiny.rescale"(%a, %mc, %oc) {max = 127 : i32, min = -128 : i32, shift = 39 : i32} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<3x2xi8>
  return %q : tensor<3x2xi8>
}
