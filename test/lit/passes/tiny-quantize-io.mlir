// RUN: tinymlir-opt %s --split-input-file --tiny-quantize-io | FileCheck %s

// Only what the model has as float32 becomes that. Eight comparisons of the bits find the
// result, and its layers have names of their own.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[A:.*]]: tensor<2xi8>, %[[X:.*]]: tensor<2xf32> {tiny.model_type = "float32"
// CHECK-SAME: -> (tensor<2xi8>, tensor<2xf32> {tiny.model_type = "float32"
// CHECK: %[[TABLE:.*]] = arith.constant dense<{{.*}}> : tensor<255xi32>
// CHECK: %[[Q:.*]] = linalg.generic {{.*}} ins(%[[X]] : tensor<2xf32>)
// CHECK-SAME: tiny.layer = "x_quantize_", tiny.op = "quantize"
// CHECK-NEXT: ^bb0(%[[IN:.*]]: f32
// CHECK-NEXT: arith.bitcast %[[IN]] : f32 to i32
// CHECK-COUNT-8: tensor.extract %[[TABLE]]
// CHECK: %[[S:.*]] = linalg.max {{.*}} ins(%[[A]], %[[Q]] :
// CHECK: %[[REALS:.*]] = arith.constant dense<{{.*}}> : tensor<256xi32>
// CHECK: %[[Y:.*]] = linalg.generic {{.*}} ins(%[[S]] : tensor<2xi8>)
// CHECK-SAME: tiny.layer = "y_dequantize", tiny.op = "dequantize"
// CHECK: %[[BITS:.*]] = tensor.extract %[[REALS]]
// CHECK: arith.bitcast %[[BITS]] : i32 to f32
// CHECK: return %[[S]], %[[Y]] : tensor<2xi8>, tensor<2xf32>
func.func @main(%a: tensor<2xi8>, %x: tensor<2xi8> {tiny.model_type = "float32", tiny.name = "x", tiny.scale = 0.5 : f32})
    -> (tensor<2xi8>, tensor<2xi8> {tiny.model_type = "float32", tiny.name = "y", tiny.scale = 0.5 : f32}) {
  %e = tensor.empty() : tensor<2xi8>
  %s = linalg.max {tiny.layer = "x_quantize", tiny.op = "max"} ins(%a, %x : tensor<2xi8>, tensor<2xi8>) outs(%e : tensor<2xi8>) -> tensor<2xi8>
  return %s, %s : tensor<2xi8>, tensor<2xi8>
}

// -----

// Ties go as the model's do: of 0.25 = 0.5 * 0.5 to zero (its key is one above), or to one.
// CHECK-LABEL: func.func @main
// CHECK: arith.constant dense<"0x{{.*}}0100803E0000403F{{.*}}"> : tensor<255xi32>
func.func @main(%x: tensor<1xi8> {tiny.model_type = "float32", tiny.scale = 0.5 : f32, tiny.rounding = "nearest_even"}) -> tensor<1xi8> {
  %y = func.call @net(%x) : (tensor<1xi8>) -> tensor<1xi8>
  return %y : tensor<1xi8>
}
func.func private @net(tensor<1xi8>) -> tensor<1xi8>

// -----

// CHECK-LABEL: func.func @main
// CHECK: arith.constant dense<"0x{{.*}}0000803E0000403F{{.*}}"> : tensor<255xi32>
func.func @main(%x: tensor<1xi8> {tiny.model_type = "float32", tiny.scale = 0.5 : f32, tiny.rounding = "nearest_away"}) -> tensor<1xi8> {
  %y = func.call @net(%x) : (tensor<1xi8>) -> tensor<1xi8>
  return %y : tensor<1xi8>
}
func.func private @net(tensor<1xi8>) -> tensor<1xi8>

// -----

// Integers stay what they are.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: tensor<1xi8> {tiny.model_type = "uint8"}) -> tensor<1xi8>
// CHECK-NEXT: %[[Y:.*]] = call @net(%[[X]])
// CHECK-NEXT: return %[[Y]]
func.func @main(%x: tensor<1xi8> {tiny.model_type = "uint8"}) -> tensor<1xi8> {
  %y = func.call @net(%x) : (tensor<1xi8>) -> tensor<1xi8>
  return %y : tensor<1xi8>
}
func.func private @net(tensor<1xi8>) -> tensor<1xi8>
