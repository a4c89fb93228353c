// RUN: tinymlir-opt %s --split-input-file --tiny-expand-float | FileCheck %s

// All additions share one routine, which has no float operation left.
// CHECK: func.func private @add_float32
// CHECK-NOT: f32
// CHECK-LABEL: func.func @sum
// CHECK: %[[T:.*]] = call @add_float32(%{{.*}}, %{{.*}}) : (i32, i32) -> i32
// CHECK: %[[U:.*]] = arith.bitcast %[[T]] : i32 to f32
// CHECK: %[[V:.*]] = arith.bitcast %[[U]] : f32 to i32
// CHECK: call @add_float32(%[[V]], %{{.*}})
// CHECK-NOT: addf
// CHECK-NOT: func.func
func.func @sum(%a: f32, %b: f32, %c: f32) -> f32 {
  %x = arith.addf %a, %b : f32
  %y = arith.addf %x, %c : f32
  return %y : f32
}

// -----

// Other operations and other types stay.
// CHECK-LABEL: module
// CHECK-NEXT: func.func @others
// CHECK-NEXT: arith.mulf %{{.*}} : f32
// CHECK-NEXT: arith.addf %{{.*}} : f64
// CHECK-NEXT: arith.addf %{{.*}} : vector<4xf32>
// CHECK-NEXT: return
func.func @others(%a: f32, %b: f64, %c: vector<4xf32>) -> (f32, f64, vector<4xf32>) {
  %x = arith.mulf %a, %a : f32
  %y = arith.addf %b, %b : f64
  %z = arith.addf %c, %c : vector<4xf32>
  return %x, %y, %z : f32, f64, vector<4xf32>
}
