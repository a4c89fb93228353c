// RUN: tinymlir-opt %s | tinymlir-opt | FileCheck %s

// CHECK: "tiny.rescale"(%{{.*}}) {max = 127 : i32, min = -128 : i32, shift = 40 : i32} : (i32, i32, i64) -> i8
func.func @line(%acc: i32, %m: i32, %offset: i64) -> i8 {
  %q = "tiny.rescale"(%acc, %m, %offset) {shift = 40 : i32, min = -128 : i32, max = 127 : i32} : (i32, i32, i64) -> i8
  return %q : i8
}

// CHECK: "tiny.rescale"(%{{.*}}) {max = 127 : i32, min = -128 : i32, shift = 40 : i32} : (i32, i32, i32) -> i8
func.func @words(%acc: i32, %m: i32, %offset: i32) -> i8 {
  %q = "tiny.rescale"(%acc, %m, %offset) {shift = 40 : i32, min = -128 : i32, max = 127 : i32} : (i32, i32, i32) -> i8
  return %q : i8
}
