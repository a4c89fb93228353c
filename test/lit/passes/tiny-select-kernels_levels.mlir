// RUN: tinymlir-opt %s --tiny-select-kernels=optimize=speed | FileCheck %s
// RUN: tinymlir-opt %s --pass-pipeline='builtin.module(tiny-select-kernels{optimize=speed max-flash=6600})' | FileCheck %s --check-prefix=FLASH

#all = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

// A kernel that is named in one level is that of the same layer in the others.
// CHECK: @named({{.*}}tiny.kernel = "direct"
// CHECK: @shared({{.*}}tiny.kernel = "[[FAST:[^"]+]]"
// CHECK: @own({{.*}}tiny.kernel = "[[FAST]]"
// CHECK: @other({{.*}}tiny.kernel = "[[FAST]]"
// CHECK: @again({{.*}}tiny.kernel = "direct"
// The flash is that of all levels. A byte of a layer that two levels share saves cycles of both, so
// that layer has the faster kernel.
// FLASH: @shared({{.*}}tiny.kernel = "im2col{unroll=12 pixels=2}"
// FLASH: @own({{.*}}tiny.kernel = "im2col{unroll=4 pixels=2}"
// FLASH: @other({{.*}}tiny.kernel = "im2col{unroll=12 pixels=2}"
module {
  module {
    func.func private @named(%x: tensor<1x8x8x16xi8>) -> tensor<1x6x6x8xi8> attributes {tiny.layer = "a", tiny.macs = 41472 : i64, tiny.op = "conv2d"} {
      %w = arith.constant dense<2> : tensor<8x3x3x16xi8>
      %zero = arith.constant 0 : i32
      %e = tensor.empty() : tensor<1x6x6x8xi32>
      %init = linalg.fill ins(%zero : i32) outs(%e : tensor<1x6x6x8xi32>) -> tensor<1x6x6x8xi32>
      %acc = linalg.conv_2d_nhwc_fhwc ins(%x, %w : tensor<1x8x8x16xi8>, tensor<8x3x3x16xi8>) outs(%init : tensor<1x6x6x8xi32>) -> tensor<1x6x6x8xi32>
      %e8 = tensor.empty() : tensor<1x6x6x8xi8>
      %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x6x6x8xi32>) outs(%e8 : tensor<1x6x6x8xi8>) {
      ^bb0(%a: i32, %o: i8):
        %q = arith.trunci %a : i32 to i8
        linalg.yield %q : i8
      } -> tensor<1x6x6x8xi8>
      return %y : tensor<1x6x6x8xi8>
    }
    func.func private @shared(%x: tensor<1x8x8x16xi8>) -> tensor<1x6x6x8xi8> attributes {tiny.layer = "b", tiny.macs = 41472 : i64, tiny.op = "conv2d"} {
      %w = arith.constant dense<1> : tensor<8x3x3x16xi8>
      %zero = arith.constant 0 : i32
      %e = tensor.empty() : tensor<1x6x6x8xi32>
      %init = linalg.fill ins(%zero : i32) outs(%e : tensor<1x6x6x8xi32>) -> tensor<1x6x6x8xi32>
      %acc = linalg.conv_2d_nhwc_fhwc ins(%x, %w : tensor<1x8x8x16xi8>, tensor<8x3x3x16xi8>) outs(%init : tensor<1x6x6x8xi32>) -> tensor<1x6x6x8xi32>
      %e8 = tensor.empty() : tensor<1x6x6x8xi8>
      %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x6x6x8xi32>) outs(%e8 : tensor<1x6x6x8xi8>) {
      ^bb0(%a: i32, %o: i8):
        %q = arith.trunci %a : i32 to i8
        linalg.yield %q : i8
      } -> tensor<1x6x6x8xi8>
      return %y : tensor<1x6x6x8xi8>
    }
  }
  module {
    func.func private @own(%x: tensor<1x7x8x16xi8>) -> tensor<1x5x6x8xi8> attributes {tiny.layer = "a", tiny.macs = 34560 : i64, tiny.op = "conv2d"} {
      %w = arith.constant dense<3> : tensor<8x3x3x16xi8>
      %zero = arith.constant 0 : i32
      %e = tensor.empty() : tensor<1x5x6x8xi32>
      %init = linalg.fill ins(%zero : i32) outs(%e : tensor<1x5x6x8xi32>) -> tensor<1x5x6x8xi32>
      %acc = linalg.conv_2d_nhwc_fhwc ins(%x, %w : tensor<1x7x8x16xi8>, tensor<8x3x3x16xi8>) outs(%init : tensor<1x5x6x8xi32>) -> tensor<1x5x6x8xi32>
      %e8 = tensor.empty() : tensor<1x5x6x8xi8>
      %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x5x6x8xi32>) outs(%e8 : tensor<1x5x6x8xi8>) {
      ^bb0(%a: i32, %o: i8):
        %q = arith.trunci %a : i32 to i8
        linalg.yield %q : i8
      } -> tensor<1x5x6x8xi8>
      return %y : tensor<1x5x6x8xi8>
    }
    func.func private @other(%x: tensor<1x8x8x16xi8>) -> tensor<1x6x6x8xi8> attributes {tiny.layer = "b", tiny.macs = 41472 : i64, tiny.op = "conv2d"} {
      %w = arith.constant dense<1> : tensor<8x3x3x16xi8>
      %zero = arith.constant 0 : i32
      %e = tensor.empty() : tensor<1x6x6x8xi32>
      %init = linalg.fill ins(%zero : i32) outs(%e : tensor<1x6x6x8xi32>) -> tensor<1x6x6x8xi32>
      %acc = linalg.conv_2d_nhwc_fhwc ins(%x, %w : tensor<1x8x8x16xi8>, tensor<8x3x3x16xi8>) outs(%init : tensor<1x6x6x8xi32>) -> tensor<1x6x6x8xi32>
      %e8 = tensor.empty() : tensor<1x6x6x8xi8>
      %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x6x6x8xi32>) outs(%e8 : tensor<1x6x6x8xi8>) {
      ^bb0(%a: i32, %o: i8):
        %q = arith.trunci %a : i32 to i8
        linalg.yield %q : i8
      } -> tensor<1x6x6x8xi8>
      return %y : tensor<1x6x6x8xi8>
    }
  }
  module {
    func.func private @again(%x: tensor<1x8x8x16xi8>) -> tensor<1x6x6x8xi8> attributes {tiny.kernel = "direct", tiny.layer = "a", tiny.macs = 41472 : i64, tiny.op = "conv2d"} {
      %w = arith.constant dense<2> : tensor<8x3x3x16xi8>
      %zero = arith.constant 0 : i32
      %e = tensor.empty() : tensor<1x6x6x8xi32>
      %init = linalg.fill ins(%zero : i32) outs(%e : tensor<1x6x6x8xi32>) -> tensor<1x6x6x8xi32>
      %acc = linalg.conv_2d_nhwc_fhwc ins(%x, %w : tensor<1x8x8x16xi8>, tensor<8x3x3x16xi8>) outs(%init : tensor<1x6x6x8xi32>) -> tensor<1x6x6x8xi32>
      %e8 = tensor.empty() : tensor<1x6x6x8xi8>
      %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x6x6x8xi32>) outs(%e8 : tensor<1x6x6x8xi8>) {
      ^bb0(%a: i32, %o: i8):
        %q = arith.trunci %a : i32 to i8
        linalg.yield %q : i8
      } -> tensor<1x6x6x8xi8>
      return %y : tensor<1x6x6x8xi8>
    }
  }
}
