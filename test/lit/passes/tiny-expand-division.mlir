// RUN: tinymlir-opt %s --split-input-file --tiny-expand-division | FileCheck %s

// Quotients and remainders share one routine; other widths are converted.
// CHECK: func.func private @divide
// CHECK-NOT: divui
// CHECK-LABEL: func.func @split
// CHECK-SAME: (%[[A:.*]]: index, %[[B:.*]]: index, %[[C:.*]]: i8, %[[D:.*]]: i8)
// CHECK: %[[A32:.*]] = arith.index_cast %[[A]] : index to i32
// CHECK: %[[B32:.*]] = arith.index_cast %[[B]] : index to i32
// CHECK: %[[Q32:.*]] = call @divide(%[[A32]], %[[B32]])
// CHECK: %[[Q:.*]] = arith.index_cast %[[Q32]] : i32 to index
// CHECK: %[[C32:.*]] = arith.extui %[[C]] : i8 to i32
// CHECK: %[[D32:.*]] = arith.extui %[[D]] : i8 to i32
// CHECK: %[[P32:.*]] = call @divide(%[[C32]], %[[D32]])
// CHECK: %[[BACK:.*]] = arith.muli %[[P32]], %[[D32]]
// CHECK: %[[R32:.*]] = arith.subi %[[C32]], %[[BACK]]
// CHECK: %[[R:.*]] = arith.trunci %[[R32]] : i32 to i8
// CHECK: return %[[Q]], %[[R]]
// CHECK-NOT: func.func
func.func @split(%a: index, %b: index, %c: i8, %d: i8) -> (index, i8) {
  %q = arith.divui %a, %b : index
  %r = arith.remui %c, %d : i8
  return %q, %r : index, i8
}

// -----

// Short divisions by a constant need no routine.
// CHECK-LABEL: module
// CHECK-NEXT: func.func @short
// CHECK: %[[D:.*]] = arith.extui %c3{{.*}} : i16 to i32
// CHECK: arith.muli %{{.*}}, %c21845_i32
// CHECK: arith.cmpi uge, %{{.*}}, %[[D]]
// CHECK-NOT: remui
// CHECK: return
func.func @short(%a: i16) -> i16 {
  %c3 = arith.constant 3 : i16
  %r = arith.remui %a, %c3 : i16
  return %r : i16
}

// -----

// Other operations stay.
// CHECK-LABEL: module
// CHECK-NEXT: func.func @others
// CHECK-NEXT: arith.divsi
// CHECK-NEXT: arith.divf
// CHECK-NEXT: return
func.func @others(%a: i32, %b: f32) -> (i32, f32) {
  %x = arith.divsi %a, %a : i32
  %y = arith.divf %b, %b : f32
  return %x, %y : i32, f32
}
