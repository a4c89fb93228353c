// RUN: tinymlir-opt %s | tinymlir-opt | FileCheck %s

// CHECK-LABEL: func.func @f(
// CHECK: "tiny.add_float32"(%{{.*}}, %{{.*}}) : (i64, i64) -> i64
func.func @f(%a: i64, %b: i64) -> i64 {
  %s = "tiny.add_float32"(%a, %b) : (i64, i64) -> i64
  return %s : i64
}
