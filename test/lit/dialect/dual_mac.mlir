// RUN: tinymlir-opt %s | tinymlir-opt | FileCheck %s

// CHECK-LABEL: func.func @f(
// CHECK: %[[W:.*]] = "tiny.extend_bytes"(%{{.*}}) {first = 1 : i32} : (i32) -> i32
// CHECK: "tiny.dual_mac"(%{{.*}}, %{{.*}}, %[[W]]) : (i32, i32, i32) -> i32
func.func @f(%acc: i32, %x: i32, %word: i32) -> i32 {
  %w = "tiny.extend_bytes"(%word) {first = 1 : i32} : (i32) -> i32
  %s = "tiny.dual_mac"(%acc, %x, %w) : (i32, i32, i32) -> i32
  return %s : i32
}

// CHECK-LABEL: func.func @most(
// CHECK: "tiny.max_bytes"(%{{.*}}, %{{.*}}) : (i32, i32) -> i32
func.func @most(%x: i32, %y: i32) -> i32 {
  %m = "tiny.max_bytes"(%x, %y) : (i32, i32) -> i32
  return %m : i32
}

// CHECK-LABEL: func.func @dot(
// CHECK: "tiny.dot"(%{{.*}}, %{{.*}}, %{{.*}}) : (i32, vector<16xi8>, vector<16xi8>) -> i32
func.func @dot(%acc: i32, %x: vector<16xi8>, %w: vector<16xi8>) -> i32 {
  %s = "tiny.dot"(%acc, %x, %w) : (i32, vector<16xi8>, vector<16xi8>) -> i32
  return %s : i32
}

// CHECK-LABEL: func.func @one(
// CHECK: "tiny.mac"(%{{.*}}, %{{.*}}, %{{.*}}) : (i32, i32, i32) -> i32
func.func @one(%acc: i32, %x: i32, %w: i32) -> i32 {
  %s = "tiny.mac"(%acc, %x, %w) : (i32, i32, i32) -> i32
  return %s : i32
}

// CHECK-LABEL: func.func @four(
// CHECK: "tiny.quad_mac"(%{{.*}}, %{{.*}}, %{{.*}}) : (i32, i32, i32) -> i32
func.func @four(%acc: i32, %x: i32, %w: i32) -> i32 {
  %s = "tiny.quad_mac"(%acc, %x, %w) : (i32, i32, i32) -> i32
  return %s : i32
}
