// RUN: tinymlir-opt %s --verify-diagnostics --split-input-file

func.func @narrow(%acc: i32, %late: i8) -> i32 {
  // expected-error@+1 {{expected 'i32' but got 'i8'}}
  %next = "tiny.step_over"(%acc, %late) : (i32, i8) -> i32
  return %next : i32
}
