// RUN: tinymlir-opt %s --split-input-file --tiny-dense-to-conv | FileCheck %s

#id = affine_map<(d0, d1) -> (d0, d1)>
#channel = affine_map<(d0, d1) -> (d1)>

// A chain, behind reshapes: the second layer is one of an image of one pixel. Scales of channels go
// along, and so does the name; a result that other ops want flat is.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: tensor<1x2x1x2xi8>)
// CHECK: %[[W:.*]] = arith.constant dense<{{\[}}{{\[}}{{\[}}[1, 3]], {{\[}}[5, 7]]], {{\[}}{{\[}}[2, 4]], {{\[}}[6, 8]]]]> : tensor<2x2x1x2xi8>
// CHECK: linalg.conv_2d_nhwc_fhwc {{.*}} ins(%[[X]], %[[W]]
// CHECK: %[[A:.*]] = linalg.generic
// CHECK-SAME: outs(%{{.*}} : tensor<1x1x1x2xi8>)
// CHECK: arith.constant dense<[5, 6]> : tensor<2xi32>
// CHECK: linalg.conv_2d_nhwc_fhwc {{.*}}tiny.op = "fully_connected"{{.*}} ins(%[[A]], %{{.*}} : tensor<1x1x1x2xi8>, tensor<2x1x1x2xi8>)
// CHECK: linalg.generic {indexing_maps = [#{{.*}}, #[[CHANNEL:.*]], #{{.*}}], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
// CHECK-SAME: tiny.layer = "second"
// CHECK: tensor.collapse_shape
// CHECK: linalg.reduce
func.func @main(%x: tensor<1x2x1x2xi8>) -> tensor<1xi8> {
  %w = arith.constant dense<[[1, 2], [3, 4], [5, 6], [7, 8]]> : tensor<4x2xi8>
  %v = arith.constant dense<1> : tensor<2x2xi8>
  %bias = arith.constant dense<[5, 6]> : tensor<2xi32>
  %scale = arith.constant dense<[2, 3]> : tensor<2xi32>
  %zero = arith.constant 0 : i32
  %least = arith.constant -128 : i8
  %e = tensor.empty() : tensor<1x2xi32>
  %e8 = tensor.empty() : tensor<1x2xi8>
  %row = tensor.collapse_shape %x [[0, 1, 2, 3]] : tensor<1x2x1x2xi8> into tensor<4xi8>
  %flat = tensor.expand_shape %row [[0, 1]] output_shape [1, 4] : tensor<4xi8> into tensor<1x4xi8>
  %init = linalg.fill ins(%zero : i32) outs(%e : tensor<1x2xi32>) -> tensor<1x2xi32>
  %first = linalg.matmul ins(%flat, %w : tensor<1x4xi8>, tensor<4x2xi8>) outs(%init : tensor<1x2xi32>) -> tensor<1x2xi32>
  %a = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%first : tensor<1x2xi32>) outs(%e8 : tensor<1x2xi8>) {
  ^bb0(%s: i32, %o: i8):
    %q = arith.trunci %s : i32 to i8
    linalg.yield %q : i8
  } -> tensor<1x2xi8>
  %start = linalg.broadcast ins(%bias : tensor<2xi32>) outs(%e : tensor<1x2xi32>) dimensions = [0]
  %second = linalg.matmul ins(%a, %v : tensor<1x2xi8>, tensor<2x2xi8>) outs(%start : tensor<1x2xi32>) -> tensor<1x2xi32>
  %b = linalg.generic {indexing_maps = [#id, #channel, #id], iterator_types = ["parallel", "parallel"]}
      ins(%second, %scale : tensor<1x2xi32>, tensor<2xi32>) outs(%e8 : tensor<1x2xi8>)
      attrs = {tiny.layer = "second"} {
  ^bb0(%s: i32, %m: i32, %o: i8):
    %p = arith.muli %s, %m : i32
    %q = arith.trunci %p : i32 to i8
    linalg.yield %q : i8
  } -> tensor<1x2xi8>
  %e1 = tensor.empty() : tensor<1xi8>
  %i1 = linalg.fill ins(%least : i8) outs(%e1 : tensor<1xi8>) -> tensor<1xi8>
  %y = linalg.reduce { arith.maxsi } ins(%b : tensor<1x2xi8>) outs(%i1 : tensor<1xi8>) dimensions = [1]
  return %y : tensor<1xi8>
}

// -----

#id = affine_map<(d0, d1) -> (d0, d1)>

// No image, a batch of two, and sums that something else than a constant is added to, stay.
// CHECK-LABEL: func.func @main
// CHECK-COUNT-3: linalg.matmul
// CHECK-NOT: linalg.conv_2d
func.func @main(%x: tensor<1x4xi8>, %two: tensor<2x1x2x2xi8>, %z: tensor<1x1x2x2xi8>)
    -> (tensor<1x2xi8>, tensor<2x2xi8>, tensor<1x2xi8>) {
  %w = arith.constant dense<1> : tensor<4x2xi8>
  %zero = arith.constant 0 : i32
  %e = tensor.empty() : tensor<1x2xi32>
  %f = tensor.empty() : tensor<2x2xi32>
  %e8 = tensor.empty() : tensor<1x2xi8>
  %f8 = tensor.empty() : tensor<2x2xi8>
  %init = linalg.fill ins(%zero : i32) outs(%e : tensor<1x2xi32>) -> tensor<1x2xi32>
  %inits = linalg.fill ins(%zero : i32) outs(%f : tensor<2x2xi32>) -> tensor<2x2xi32>
  %flat = tensor.collapse_shape %two [[0], [1, 2, 3]] : tensor<2x1x2x2xi8> into tensor<2x4xi8>
  %row = tensor.collapse_shape %z [[0], [1, 2, 3]] : tensor<1x1x2x2xi8> into tensor<1x4xi8>
  %p = linalg.matmul ins(%x, %w : tensor<1x4xi8>, tensor<4x2xi8>) outs(%init : tensor<1x2xi32>) -> tensor<1x2xi32>
  %q = linalg.matmul ins(%flat, %w : tensor<2x4xi8>, tensor<4x2xi8>) outs(%inits : tensor<2x2xi32>) -> tensor<2x2xi32>
  %r = linalg.matmul ins(%row, %w : tensor<1x4xi8>, tensor<4x2xi8>) outs(%init : tensor<1x2xi32>) -> tensor<1x2xi32>
  %a = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%p : tensor<1x2xi32>) outs(%e8 : tensor<1x2xi8>) {
  ^bb0(%s: i32, %o: i8):
    %t = arith.trunci %s : i32 to i8
    linalg.yield %t : i8
  } -> tensor<1x2xi8>
  %b = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%q : tensor<2x2xi32>) outs(%f8 : tensor<2x2xi8>) {
  ^bb0(%s: i32, %o: i8):
    %t = arith.trunci %s : i32 to i8
    linalg.yield %t : i8
  } -> tensor<2x2xi8>
  %c = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%r, %a : tensor<1x2xi32>, tensor<1x2xi8>) outs(%e8 : tensor<1x2xi8>) {
  ^bb0(%s: i32, %d: i8, %o: i8):
    %t = arith.trunci %s : i32 to i8
    %u = arith.addi %t, %d : i8
    linalg.yield %u : i8
  } -> tensor<1x2xi8>
  return %a, %b, %c : tensor<1x2xi8>, tensor<2x2xi8>, tensor<1x2xi8>
}
