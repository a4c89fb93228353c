// RUN: tinymlir-opt %s --tiny-expand-multiply | FileCheck %s

// The low word is a plain product; other products stay.
// CHECK-LABEL: func.func @both
// CHECK-SAME: (%[[A:.*]]: i32, %[[B:.*]]: i32)
// CHECK-NOT: mulsi_extended
// CHECK: %[[LOW:.*]] = arith.muli %[[A]], %[[B]] : i32
// CHECK: %[[HIGH:.*]] = arith.addi
// CHECK: arith.mului_extended
// CHECK: return %[[LOW]], %[[HIGH]]
func.func @both(%a: i32, %b: i32) -> (i32, i32) {
  %low, %high = arith.mulsi_extended %a, %b : i32
  %l, %h = arith.mului_extended %a, %b : i32
  return %low, %high : i32, i32
}
