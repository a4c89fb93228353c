// RUN: tinymlir-opt %s | tinymlir-opt | FileCheck %s
// RUN: tinymlir-opt %s --canonicalize | FileCheck %s --check-prefix=PURE

// CHECK: "tiny.step_over"(%{{.*}}, %{{.*}}) : (i32, i32) -> i32
// PURE: "tiny.step_over"
// PURE-NOT: "tiny.step_over"
func.func @next(%acc: i32, %late: i32) -> i32 {
  %next = "tiny.step_over"(%acc, %late) : (i32, i32) -> i32
  %unused = "tiny.step_over"(%next, %late) : (i32, i32) -> i32
  return %next : i32
}
