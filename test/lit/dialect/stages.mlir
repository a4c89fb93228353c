// RUN: tinymlir-opt %s | FileCheck %s

// CHECK-LABEL: func.func @f
// CHECK: "tiny.fused_stage"() ({
// CHECK: "tiny.patch_tile"(%{{.*}}) {columns = 5 : i64, rows = 3 : i64, tiny.in_place}
// CHECK: "tiny.patch_yield"(%{{.*}})
// CHECK: strips = 2 : i64
func.func @f(%x: tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8> {
  %y = "tiny.fused_stage"() ({
    %b = func.call @layer0(%x) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    %t = "tiny.patch_tile"(%b) {columns = 5 : i64, rows = 3 : i64, tiny.in_place} : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    %c = func.call @layer1(%t) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    "tiny.patch_yield"(%c) : (tensor<1x8x8x4xi8>) -> ()
  }) {strips = 2 : i64} : () -> tensor<1x8x8x4xi8>
  return %y : tensor<1x8x8x4xi8>
}
func.func private @layer0(tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
func.func private @layer1(tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>

// CHECK-LABEL: func.func @slot
// CHECK: "tiny.ring_slot"(%{{.*}}) {slots = 3 : i64} : (index) -> index
func.func @slot(%row: index) -> index {
  %s = "tiny.ring_slot"(%row) {slots = 3 : i64} : (index) -> index
  return %s : index
}

// CHECK-LABEL: func.func @cached
// CHECK: "tiny.patch_tile"(%{{.*}}) {columns = 3 : i64, rows = 3 : i64, tiny.cached_columns = 2 : i64}
func.func @cached(%x: tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8> {
  %y = "tiny.fused_stage"() ({
    %a = func.call @peak(%x) : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %t = "tiny.patch_tile"(%a) {rows = 3 : i64, columns = 3 : i64, tiny.cached_columns = 2 : i64} : (tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
    %c = func.call @window(%t) : (tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
    "tiny.patch_yield"(%c) : (tensor<1x4x2x1xi8>) -> ()
  }) {strips = 2 : i64} : () -> tensor<1x4x2x1xi8>
  return %y : tensor<1x4x2x1xi8>
}
func.func private @peak(tensor<1x6x4x1xi8>) -> tensor<1x6x4x1xi8>
func.func private @window(tensor<1x6x4x1xi8>) -> tensor<1x4x2x1xi8>
