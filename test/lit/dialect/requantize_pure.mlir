// RUN: tinymlir-opt %s --cse | FileCheck %s
// RUN: tinymlir-opt %s --canonicalize | FileCheck %s --check-prefix=DEAD
// RUN: tinymlir-opt %s --loop-invariant-code-motion | FileCheck %s --check-prefix=HOIST

// Two of the three compute the same; the third rounds differently.
// CHECK-LABEL: func.func @equal(
// CHECK: %[[A:.*]] = "tiny.requantize"
// CHECK-NEXT: %[[B:.*]] = "tiny.requantize"
// CHECK-NEXT: return %[[A]], %[[A]], %[[B]] : i8, i8, i8
func.func @equal(%acc: i32, %m: i32, %s: i32) -> (i8, i8, i8) {
  %0 = "tiny.requantize"(%acc, %m, %s) {zero_point = 3 : i32, min = -128 : i32, max = 127 : i32,
         rounding = "nearest_even"} : (i32, i32, i32) -> i8
  %1 = "tiny.requantize"(%acc, %m, %s) {zero_point = 3 : i32, min = -128 : i32, max = 127 : i32,
         rounding = "nearest_even"} : (i32, i32, i32) -> i8
  %2 = "tiny.requantize"(%acc, %m, %s) {zero_point = 3 : i32, min = -128 : i32, max = 127 : i32,
         rounding = "nearest_up"} : (i32, i32, i32) -> i8
  return %0, %1, %2 : i8, i8, i8
}

// DEAD-LABEL: func.func @dead(
// DEAD-NEXT: return
func.func @dead(%acc: i32, %m: i32, %s: i32) {
  %0 = "tiny.requantize"(%acc, %m, %s) {zero_point = 3 : i32, min = -128 : i32, max = 127 : i32,
         rounding = "nearest_even"} : (i32, i32, i32) -> i8
  return
}

// HOIST-LABEL: func.func @invariant(
// HOIST: "tiny.requantize"
// HOIST: scf.for
// HOIST-NOT: "tiny.requantize"
// HOIST: return
func.func @invariant(%acc: i32, %m: i32, %s: i32, %n: index, %out: memref<?xi8>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c0 to %n step %c1 {
    %0 = "tiny.requantize"(%acc, %m, %s) {zero_point = 3 : i32, min = -128 : i32, max = 127 : i32,
           rounding = "nearest_even"} : (i32, i32, i32) -> i8
    memref.store %0, %out[%i] : memref<?xi8>
  }
  return
}
