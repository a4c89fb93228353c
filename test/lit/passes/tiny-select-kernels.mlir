// RUN: tinymlir-opt %s --tiny-select-kernels | FileCheck %s
// RUN: tinymlir-opt %s --tiny-select-kernels=target=cortex-m3 | FileCheck %s --check-prefix=M3
// RUN: tinymlir-opt %s --tiny-select-kernels=optimize=speed | FileCheck %s --check-prefix=SPEED
// RUN: tinymlir-opt %s --pass-pipeline='builtin.module(tiny-select-kernels{optimize=speed max-flash=4000})' | FileCheck %s --check-prefix=FLASH
// RUN: tinymlir-opt %s --pass-pipeline='builtin.module(tiny-select-kernels{optimize=speed flash-timing=5:8:128:32})' | FileCheck %s --check-prefix=WAITS
// RUN: tinymlir-opt %s --tiny-select-kernels=beyond-prices=60000 | FileCheck %s --check-prefix=MUCH
// RUN: tinymlir-opt %s --tiny-select-kernels=max-flash=10 | FileCheck %s --check-prefix=LEAST

#all = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

// Two MACs at a time where the core has SMLAD.
// CHECK-LABEL: func.func private @deep
// CHECK-SAME: tiny.kernel = "im2col
// CHECK-SAME: tiny.price = {cycles = {{[0-9]+}} : i64, flash_bytes = {{[0-9]+}} : i64, instructions = {{[0-9]+}} : i64}
// M3-LABEL: func.func private @deep
// M3-NOT: tiny.kernel = "im2col
// What is fastest takes more flash than there may be.
// SPEED-LABEL: func.func private @deep
// SPEED-SAME: tiny.kernel = "{{im2col.unroll=36|unpacked}}
// FLASH-LABEL: func.func private @deep
// FLASH-SAME: tiny.kernel = "{{im2col.unroll=4|im2col.unroll=12|im2col.unroll=18}}
// Straight-line code waits for flash, loops are kept.
// WAITS-LABEL: func.func private @deep
// WAITS-SAME: tiny.kernel = "{{im2col|compact}}
// Where nothing fits, the smallest is taken.
// LEAST-LABEL: func.func private @deep
// LEAST-SAME: tiny.kernel = "direct"
func.func private @deep(%x: tensor<1x8x8x16xi8>) -> tensor<1x6x6x8xi8> attributes {tiny.layer = "deep", tiny.macs = 41472 : i64, tiny.op = "conv2d"} {
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

// What is named already is kept, and priced.
// CHECK-LABEL: func.func private @pinned
// CHECK-SAME: tiny.kernel = "direct"
// CHECK-SAME: tiny.price
func.func private @pinned(%x: tensor<1x2x2x16xi8>) -> tensor<1x2x2x8xi8> attributes {tiny.kernel = "direct", tiny.layer = "pinned", tiny.macs = 512 : i64, tiny.op = "conv2d"} {
  %w = arith.constant dense<1> : tensor<8x1x1x16xi8>
  %zero = arith.constant 0 : i32
  %e = tensor.empty() : tensor<1x2x2x8xi32>
  %init = linalg.fill ins(%zero : i32) outs(%e : tensor<1x2x2x8xi32>) -> tensor<1x2x2x8xi32>
  %acc = linalg.conv_2d_nhwc_fhwc ins(%x, %w : tensor<1x2x2x16xi8>, tensor<8x1x1x16xi8>) outs(%init : tensor<1x2x2x8xi32>) -> tensor<1x2x2x8xi32>
  %e8 = tensor.empty() : tensor<1x2x2x8xi8>
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x2x2x8xi32>) outs(%e8 : tensor<1x2x2x8xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = arith.trunci %a : i32 to i8
    linalg.yield %q : i8
  } -> tensor<1x2x2x8xi8>
  return %y : tensor<1x2x2x8xi8>
}

// No convolution, no kernel.
// CHECK-LABEL: func.func private @peak
// CHECK-NOT: tiny.kernel
func.func private @peak(%x: tensor<4xi8>) -> tensor<4xi8> attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<4xi8>
  %y = linalg.max ins(%x, %x : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}

// The bytes of the weights and 35,000 more are kept, where what no kernel has leaves room for it.
// CHECK-LABEL: func.func @main
// CHECK-SAME: tiny.flash_budget = 36{{[0-9]+}} : i64, tiny.flash_spare = {{[0-9]+}} : i64
// SPEED-LABEL: func.func @main
// SPEED-NOT: tiny.flash_budget
// MUCH-LABEL: func.func @main
// MUCH-NOT: tiny.flash_budget
func.func @main(%x: tensor<1x8x8x16xi8>) -> tensor<1x6x6x8xi8> {
  %y = call @deep(%x) : (tensor<1x8x8x16xi8>) -> tensor<1x6x6x8xi8>
  return %y : tensor<1x6x6x8xi8>
}
