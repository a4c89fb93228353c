// RUN: tinymlir-opt %s --tiny-lower-rings | FileCheck %s

// CHECK-LABEL: func.func @slots
// CHECK: %[[ROW:.*]] = arith.index_cast %{{.*}} : index to i16
// CHECK: arith.remui %[[ROW]], %c3_i16 : i16
// CHECK: arith.andi %{{.*}}, %c7
// CHECK-NOT: tiny.ring_slot
func.func @slots(%row: index) -> (index, index) {
  %a = "tiny.ring_slot"(%row) {slots = 3 : i64} : (index) -> index
  %b = "tiny.ring_slot"(%row) {slots = 8 : i64} : (index) -> index
  return %a, %b : index, index
}

// Other remainders stay.
// CHECK-LABEL: func.func @other
// CHECK: arith.remui
// CHECK-NEXT: return
func.func @other(%a: index, %b: index) -> index {
  %c = arith.remui %a, %b : index
  return %c : index
}
