// RUN: tinymlir-opt %s --split-input-file --tiny-lower-add-float32 | FileCheck %s

// Zero plus a number is that number, so three additions are two of integers, each rounded.
// CHECK-LABEL: func.func @sum
// CHECK-SAME: (%[[A:.*]]: i64, %[[B:.*]]: i64, %[[C:.*]]: i64)
// CHECK: %[[S:.*]] = arith.addi %[[A]], %[[B]] : i64
// CHECK: %[[U:.*]] = arith.addi %[[S]], %{{.*}} : i64
// CHECK: %[[R:.*]] = arith.andi %[[U]], %{{.*}} : i64
// CHECK: arith.addi %[[R]], %[[C]] : i64
// CHECK: %[[T:.*]] = arith.andi %{{.*}} : i64
// CHECK: return %[[T]]
func.func @sum(%a: i64, %b: i64, %c: i64) -> i64 {
  %zero = arith.constant 0 : i64
  %x = "tiny.add_float32"(%zero, %a) : (i64, i64) -> i64
  %y = "tiny.add_float32"(%x, %b) : (i64, i64) -> i64
  %z = "tiny.add_float32"(%y, %c) : (i64, i64) -> i64
  return %z : i64
}

// -----

// Zero may be on the right.
// CHECK-LABEL: func.func @zero
// CHECK: return %arg0
func.func @zero(%a: i64) -> i64 {
  %zero = arith.constant 0 : i64
  %x = "tiny.add_float32"(%a, %zero) : (i64, i64) -> i64
  return %x : i64
}

// -----

// Other additions stay.
// CHECK-LABEL: module
// CHECK-NEXT: func.func @others
// CHECK-NEXT: arith.addi %{{.*}} : i64
// CHECK-NEXT: arith.addf %{{.*}} : f32
// CHECK-NEXT: return
func.func @others(%a: i64, %b: f32) -> (i64, f32) {
  %x = arith.addi %a, %a : i64
  %y = arith.addf %b, %b : f32
  return %x, %y : i64, f32
}
