// RUN: tinymlir-opt %s --split-input-file --tiny-fuse-stages=target=cortex-m4 | FileCheck %s

// A window of three rows keeps three rows of what it reads; of two strips each keeps the
// columns of its windows. What an elementwise layer reads last lies where it writes.
// CHECK-LABEL: func.func @main
// CHECK: %[[FIRST:.*]] = call @peak(%arg0)
// CHECK: %[[STAGE:.*]] = "tiny.fused_stage"() ({
// CHECK: %[[PEAK:.*]] = func.call @peak(%[[FIRST]])
// CHECK: %[[TILE:.*]] = "tiny.patch_tile"(%[[PEAK]]) {columns = 3 : i64, rows = 3 : i64, tiny.in_place}
// CHECK: %[[BOTH:.*]] = func.call @both(%[[TILE]], %[[FIRST]])
// CHECK: %[[WHOLE:.*]] = "tiny.patch_tile"(%[[BOTH]]) {columns = 3 : i64, rows = 3 : i64}
// CHECK: %[[RESULT:.*]] = func.call @window(%[[WHOLE]])
// CHECK: "tiny.patch_yield"(%[[RESULT]])
// CHECK: strips = 2 : i64
// CHECK: return %[[STAGE]]
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %f = call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  %a = call @peak(%f) {tiny.stage = 0 : i64, tiny.strips = 2 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  %b = call @both(%a, %f) {tiny.stage = 0 : i64, tiny.strips = 2 : i64} : (tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  %c = call @window(%b) {tiny.stage = 0 : i64, tiny.strips = 2 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
  return %c : tensor<1x4x2x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @both(%x: tensor<1x6x4x1xi8>, %z: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "both", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %z : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @window(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    attributes {tiny.layer = "window", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
  %least = arith.constant -128 : i8
  %w = tensor.empty() : tensor<3x3xi8>
  %e = tensor.empty() : tensor<1x4x2x1xi8>
  %i = linalg.fill ins(%least : i8) outs(%e : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  %y = linalg.pooling_nhwc_max ins(%x, %w : tensor<1x6x4x1xi8>, tensor<3x3xi8>)
       outs(%i : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}

// -----

// Calls that belong to no stage stay as they are.
// CHECK-LABEL: func.func @main
// CHECK-NEXT: call @peak
// CHECK-NEXT: return
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8> {
  %f = call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %f : tensor<1x6x4x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}

// -----

// What arrives row by row has a tile too. Lean kernels are the stage's.
// CHECK-LABEL: func.func @main
// CHECK: "tiny.fused_stage"() ({
// CHECK: %[[ROWS:.*]] = "tiny.patch_tile"(%arg0) {columns = 4 : i64, rows = 1 : i64}
// CHECK: func.call @peak(%[[ROWS]])
// CHECK: strips = 1 : i64, tiny.lean}
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8> attributes {tiny.input = "streamed"} {
  %a = call @peak(%x) {tiny.stage = 0 : i64, tiny.lean} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %a : tensor<1x6x4x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}

// -----

// Of two strips with windows of three columns the second has two from the first.
// CHECK-LABEL: func.func @main
// CHECK: %[[PEAK:.*]] = func.call @peak(%arg0) : (
// CHECK: "tiny.patch_tile"(%[[PEAK]]) {columns = 3 : i64, rows = 3 : i64, tiny.cached_columns = 2 : i64}
func.func @main(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %a = call @peak(%x) {tiny.stage = 0 : i64, tiny.strips = 2 : i64, tiny.cached} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  %c = call @window(%a) {tiny.stage = 0 : i64, tiny.strips = 2 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
  return %c : tensor<1x4x2x1xi8>
}
func.func private @peak(%x: tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    attributes {tiny.layer = "peak", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x6x4x1xi8>
  %y = linalg.max ins(%x, %x : tensor<1x6x4x1xi8>, tensor<1x6x4x1xi8>)
                  outs(%e : tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
  return %y : tensor<1x6x4x1xi8>
}
func.func private @window(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    attributes {tiny.layer = "window", tiny.macs = 0 : i64, tiny.op = "max_pool2d"} {
  %least = arith.constant -128 : i8
  %w = tensor.empty() : tensor<3x3xi8>
  %e = tensor.empty() : tensor<1x4x2x1xi8>
  %i = linalg.fill ins(%least : i8) outs(%e : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  %y = linalg.pooling_nhwc_max ins(%x, %w : tensor<1x6x4x1xi8>, tensor<3x3xi8>)
       outs(%i : tensor<1x4x2x1xi8>) -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
