// RUN: tinymlir-opt %s --split-input-file --pass-pipeline='builtin.module(tiny-unpack-kernels{target=cortex-m4},tiny-lower-layers{target=cortex-m4})' | FileCheck %s
// RUN: tinymlir-opt %s --split-input-file --pass-pipeline='builtin.module(tiny-unpack-kernels{kernel=compact},tiny-lower-layers)' | FileCheck %s --check-prefix=LOOP
// RUN: tinymlir-opt %s --split-input-file --tiny-unpack-kernels=target=cortex-m0 | FileCheck %s --check-prefix=NONE
// RUN: tinymlir-opt %s --split-input-file --pass-pipeline='builtin.module(tiny-unpack-kernels{target=cortex-m3},tiny-lower-layers{target=cortex-m3})' | FileCheck %s --check-prefix=SINGLE

#all = affine_map<(d0, d1) -> (d0, d1)>

// Four operands are two pairs: 0 with 2 and 1 with 3. Channel 0 keeps the first, channel 1 the
// second, channel 2 both and channel 3 none. Each serves two pixels: 8 products, and as there
// are three pixels, one of them twice.
// NONE-NOT: unpacked
// CHECK-LABEL: func.func private @sparse(
// CHECK-SAME: tiny.executed_macs = 32 : i64
// CHECK-SAME: tiny.kernel = "unpacked"
// CHECK: scf.for
// CHECK: call @sparse_channels0(
// CHECK-LABEL: func.func private @sparse_channels0(
// CHECK-NOT: scf.for
// CHECK-COUNT-8: "tiny.dual_mac"
// CHECK-NOT: "tiny.dual_mac"
// CHECK: return
//
// A group of four pairs, which serve four pixels each, for as many groups as a channel has.
// LOOP-LABEL: func.func private @sparse(
// LOOP-SAME: tiny.kernel = "compact"
// LOOP: scf.for
// LOOP: %[[COUNT:.*]] = arith.index_cast
// LOOP: scf.for {{.*}} to %[[COUNT]]
// LOOP-COUNT-16: "tiny.dual_mac"
// LOOP-NOT: "tiny.dual_mac"
// LOOP: return
func.func private @sparse(%x: tensor<3x4xi8>) -> tensor<3x4xi8> attributes {tiny.layer = "a", tiny.macs = 48 : i64, tiny.op = "fully_connected"} {
  %w = arith.constant dense<[[1, 0, 3, 0], [0, 2, 4, 0], [5, 0, 0, 0], [0, 0, 6, 0]]> : tensor<4x4xi8>
  %c0 = arith.constant 0 : i32
  %e = tensor.empty() : tensor<3x4xi32>
  %init = linalg.fill ins(%c0 : i32) outs(%e : tensor<3x4xi32>) -> tensor<3x4xi32>
  %acc = linalg.matmul ins(%x, %w : tensor<3x4xi8>, tensor<4x4xi8>) outs(%init : tensor<3x4xi32>) -> tensor<3x4xi32>
  %e8 = tensor.empty() : tensor<3x4xi8>
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel"]} ins(%acc : tensor<3x4xi32>) outs(%e8 : tensor<3x4xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = arith.trunci %a : i32 to i8
    linalg.yield %q : i8
  } -> tensor<3x4xi8>
  return %y : tensor<3x4xi8>
}

// -----

#all = affine_map<(d0, d1) -> (d0, d1)>

// A layer that has a kernel keeps it.
// CHECK-LABEL: func.func private @chosen(
// CHECK-SAME: tiny.kernel = "direct"
func.func private @chosen(%x: tensor<1x4xi8>) -> tensor<1x1xi8> attributes {tiny.kernel = "direct", tiny.layer = "a", tiny.macs = 4 : i64, tiny.op = "fully_connected"} {
  %w = arith.constant dense<1> : tensor<4x1xi8>
  %c0 = arith.constant 0 : i32
  %e = tensor.empty() : tensor<1x1xi32>
  %init = linalg.fill ins(%c0 : i32) outs(%e : tensor<1x1xi32>) -> tensor<1x1xi32>
  %acc = linalg.matmul ins(%x, %w : tensor<1x4xi8>, tensor<4x1xi8>) outs(%init : tensor<1x1xi32>) -> tensor<1x1xi32>
  %e8 = tensor.empty() : tensor<1x1xi8>
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel"]} ins(%acc : tensor<1x1xi32>) outs(%e8 : tensor<1x1xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = arith.trunci %a : i32 to i8
    linalg.yield %q : i8
  } -> tensor<1x1xi8>
  return %y : tensor<1x1xi8>
}

// -----

// Other layers, and functions that are no layers, stay as they are.
// CHECK-LABEL: func.func private @maximum(
// CHECK-NOT: tiny.kernel
func.func private @maximum(%x: tensor<4xi8>) -> tensor<4xi8> attributes {tiny.layer = "a", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<4xi8>
  %y = linalg.max ins(%x, %x : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}

// -----

#all = affine_map<(d0, d1) -> (d0, d1)>

// Without SIMD: a product for each weight that is not zero and each word of two pixels.
// CHECK-LABEL: func.func private @single(
// SINGLE-LABEL: func.func private @single(
// SINGLE-SAME: tiny.executed_macs = 24 : i64
// SINGLE: call @single_channel0
// SINGLE: call @single_channel1
// SINGLE-LABEL: func.func private @single_channel1
// SINGLE-COUNT-4: "tiny.mac"
// SINGLE-NOT: "tiny.mac"
// SINGLE: return
func.func private @single(%x: tensor<3x4xi8>) -> tensor<3x2xi8> attributes {tiny.layer = "a", tiny.macs = 24 : i64, tiny.op = "fully_connected"} {
  %w = arith.constant dense<[[1, 0], [2, 3], [4, 0], [5, 6]]> : tensor<4x2xi8>
  %c0 = arith.constant 0 : i32
  %e = tensor.empty() : tensor<3x2xi32>
  %init = linalg.fill ins(%c0 : i32) outs(%e : tensor<3x2xi32>) -> tensor<3x2xi32>
  %acc = linalg.matmul ins(%x, %w : tensor<3x4xi8>, tensor<4x2xi8>) outs(%init : tensor<3x2xi32>) -> tensor<3x2xi32>
  %e8 = tensor.empty() : tensor<3x2xi8>
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel"]} ins(%acc : tensor<3x2xi32>) outs(%e8 : tensor<3x2xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = arith.trunci %a : i32 to i8
    linalg.yield %q : i8
  } -> tensor<3x2xi8>
  return %y : tensor<3x2xi8>
}
