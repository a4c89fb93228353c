// RUN: tinymlir-opt %s --split-input-file --pass-pipeline='builtin.module(tiny-lower-requantize{lanes=true},tiny-lower-layers{target=rv32imc_zve32x})' | FileCheck %s

#all = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

// Channels are lanes. A row is copied with its padding; then each weight vector is multiplied
// by all activations that it meets, and the sums become results together.
// CHECK: module attributes {dlti.dl_spec = #dlti.dl_spec<index = 32 : i64>}
// CHECK-LABEL: func.func private @deep(
// CHECK-SAME: tiny.kernel = "vector-depthwise"
// CHECK: call @deep_rows
// CHECK: vector.load {{.*}} : memref<4xi32>, vector<4xi32>
// CHECK-COUNT-9: vector.load {{.*}} : memref<36xi8>, vector<4xi8>
// CHECK: call @deep_out4
// CHECK: func.func private @deep_rows
// CHECK: vector.store {{.*}} vector<24xi8>
// CHECK: func.func private @deep_out4
// CHECK: arith.mulsi_extended {{.*}} : vector<4xi32>
// CHECK: vector.store {{.*}} vector<4xi8>
func.func private @deep(%x: tensor<1x4x4x4xi8>) -> tensor<1x4x4x4xi8> attributes {tiny.layer = "deep", tiny.macs = 576 : i64, tiny.op = "depthwise_conv2d"} {
  %m = arith.constant 1500000000 : i32
  %s = arith.constant 40 : i32
  %zp = arith.constant 5 : i8
  %c7 = arith.constant 7 : i32
  %w = arith.constant dense<1> : tensor<3x3x4xi8>
  %p = tensor.pad %x low[0, 1, 1, 0] high[0, 1, 1, 0] {
  ^bb0(%i: index, %j: index, %k: index, %l: index):
    tensor.yield %zp : i8
  } : tensor<1x4x4x4xi8> to tensor<1x6x6x4xi8>
  %e = tensor.empty() : tensor<1x4x4x4xi32>
  %init = linalg.fill ins(%c7 : i32) outs(%e : tensor<1x4x4x4xi32>) -> tensor<1x4x4x4xi32>
  %acc = linalg.depthwise_conv_2d_nhwc_hwc ins(%p, %w : tensor<1x6x6x4xi8>, tensor<3x3x4xi8>) outs(%init : tensor<1x4x4x4xi32>) -> tensor<1x4x4x4xi32>
  %e8 = tensor.empty() : tensor<1x4x4x4xi8>
  %y = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%acc : tensor<1x4x4x4xi32>) outs(%e8 : tensor<1x4x4x4xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = "tiny.requantize"(%a, %m, %s) {zero_point = 1 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
    linalg.yield %q : i8
  } -> tensor<1x4x4x4xi8>
  return %y : tensor<1x4x4x4xi8>
}

// -----

// A matrix product, without padding: straight from its input. Its rounding has a rare case,
// which few lanes at a time take.
// CHECK-LABEL: func.func private @product(
// CHECK-SAME: tiny.kernel = "vector"
// CHECK-NOT: call @product_rows
// CHECK: vector.broadcast {{.*}} : i32 to vector<12xi32>
// CHECK: func.func private @product_exact12
// CHECK: call @round_near_tie_x8
// CHECK: call @round_near_tie_x4
// CHECK: func.func private @product_out12
// CHECK: vector.reduction <or>
// CHECK: call @product_exact12
func.func private @product(%x: tensor<2x3xi8>) -> tensor<2x12xi8> attributes {tiny.layer = "product", tiny.macs = 72 : i64, tiny.op = "fully_connected"} {
  %m24 = arith.constant 12582912 : i32
  %s = arith.constant 40 : i32
  %c7 = arith.constant 7 : i32
  %w = arith.constant dense<3> : tensor<3x12xi8>
  %e = tensor.empty() : tensor<2x12xi32>
  %init = linalg.fill ins(%c7 : i32) outs(%e : tensor<2x12xi32>) -> tensor<2x12xi32>
  %acc = linalg.matmul ins(%x, %w : tensor<2x3xi8>, tensor<3x12xi8>) outs(%init : tensor<2x12xi32>) -> tensor<2x12xi32>
  %e8 = tensor.empty() : tensor<2x12xi8>
  %y = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%acc : tensor<2x12xi32>) outs(%e8 : tensor<2x12xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = "tiny.requantize"(%a, %m24, %s) {zero_point = 1 : i32, min = -128 : i32, max = 127 : i32, rounding = "float32"} : (i32, i32, i32) -> i8
    linalg.yield %q : i8
  } -> tensor<2x12xi8>
  return %y : tensor<2x12xi8>
}

// -----

// An elementwise layer is one run of bytes, whatever its shape.
// CHECK-LABEL: func.func private @sum(
// CHECK: scf.for %{{.*}} = %c0 to %c64 step %c32
// CHECK-COUNT-2: vector.load {{.*}} : memref<70xi8>, vector<32xi8>
// CHECK: arith.addi {{.*}} : vector<32xi8>
// CHECK-COUNT-2: vector.load {{.*}} : memref<70xi8>, vector<6xi8>
// CHECK: arith.addi {{.*}} : vector<6xi8>
func.func private @sum(%x: tensor<7x5x2xi8>, %y: tensor<7x5x2xi8>) -> tensor<7x5x2xi8> attributes {tiny.layer = "sum", tiny.macs = 0 : i64, tiny.op = "add"} {
  %e = tensor.empty() : tensor<7x5x2xi8>
  %s = linalg.add ins(%x, %y : tensor<7x5x2xi8>, tensor<7x5x2xi8>) outs(%e : tensor<7x5x2xi8>) -> tensor<7x5x2xi8>
  return %s : tensor<7x5x2xi8>
}
