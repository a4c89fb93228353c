// RUN: tinymlir-opt %s --verify-diagnostics --split-input-file

func.func @narrow(%a: i32, %b: i64) -> i64 {
  // expected-error@+1 {{expected 'i64' but got 'i32'}}
  %s = "tiny.add_float32"(%a, %b) : (i32, i64) -> i64
  return %s : i64
}

// -----

func.func @float(%a: i64, %b: i64) -> f32 {
  // expected-error@+1 {{expected 'i64' but got 'f32'}}
  %s = "tiny.add_float32"(%a, %b) : (i64, i64) -> f32
  return %s : f32
}
