// RUN: tinymlir-opt %s --split-input-file --tiny-tap-layers | FileCheck %s

// Every layer is tapped where it is called, through which views its result goes on or not;
// what the caller got before comes first, and keeps its description.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: tensor<2x2xi8>) ->
// CHECK-SAME: (tensor<4xi8> {tiny.name = "out"}, tensor<2x2xi8>, tensor<4xi8> {tiny.name = "b"})
// CHECK-NEXT: %[[A:.*]] = call @layer0(%[[X]])
// CHECK-NEXT: %[[T:.*]] = call @tap0(%[[A]])
// CHECK-NEXT: %[[V:.*]] = tensor.collapse_shape %[[A]]
// CHECK-NEXT: %[[B:.*]] = call @layer1(%[[V]])
// CHECK-NEXT: %[[U:.*]] = call @tap1(%[[B]])
// CHECK-NEXT: return %[[B]], %[[T]], %[[U]]
// CHECK: func.func private @tap1(%{{.*}}: tensor<4xi8>) -> tensor<4xi8>
// CHECK-SAME: tiny.layer = "second", tiny.macs = 0 : i64, tiny.op = "tap"
// CHECK: func.func private @tap0(%{{.*}}: tensor<2x2xi8>) -> tensor<2x2xi8>
// CHECK-SAME: tiny.layer = "first", tiny.macs = 0 : i64, tiny.op = "tap"
// CHECK: @layer0
// CHECK: @layer1
func.func @main(%x: tensor<2x2xi8>) -> (tensor<4xi8> {tiny.name = "out"}) {
  %a = call @layer0(%x) : (tensor<2x2xi8>) -> tensor<2x2xi8>
  %v = tensor.collapse_shape %a [[0, 1]] : tensor<2x2xi8> into tensor<4xi8>
  %b = call @layer1(%v) : (tensor<4xi8>) -> tensor<4xi8>
  return %b : tensor<4xi8>
}
func.func private @layer0(%x: tensor<2x2xi8>) -> tensor<2x2xi8>
    attributes {tiny.layer = "first", tiny.macs = 0 : i64, tiny.op = "max"}
func.func private @layer1(%x: tensor<4xi8>) -> tensor<4xi8>
    attributes {tiny.layer = "second", tiny.macs = 0 : i64, tiny.op = "max",
                tiny.tensor = {tiny.name = "b"}}

// -----

// What is no layer is left alone.
// CHECK-LABEL: func.func @main
// CHECK-SAME: -> tensor<4xi8>
// CHECK-NEXT: %[[Y:.*]] = call @helper
// CHECK-NEXT: return %[[Y]]
func.func @main(%x: tensor<4xi8>) -> tensor<4xi8> {
  %y = call @helper(%x) : (tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}
func.func private @helper(%x: tensor<4xi8>) -> tensor<4xi8>
