// RUN: tinymlir-opt %s --verify-diagnostics --split-input-file

func.func @small_shift(%acc: i32, %m: i32, %offset: i64) -> i8 {
  // expected-error@+1 {{'tiny.rescale' op shift must be an i32 in [32, 62], not 31 : i32}}
  %q = "tiny.rescale"(%acc, %m, %offset) {shift = 31 : i32, min = -128 : i32, max = 127 : i32} : (i32, i32, i64) -> i8
  return %q : i8
}

// -----

func.func @wide_shift(%acc: i32, %m: i32, %offset: i64) -> i8 {
  // expected-error@+1 {{'tiny.rescale' op shift must be an i32 in [32, 62], not 40 : i64}}
  %q = "tiny.rescale"(%acc, %m, %offset) {shift = 40 : i64, min = -128 : i32, max = 127 : i32} : (i32, i32, i64) -> i8
  return %q : i8
}

// -----

func.func @negative(%acc: i32, %offset: i64) -> i8 {
  %m = arith.constant -1 : i32
  // expected-error@+1 {{'tiny.rescale' op multiplier must be in [0, 2147483647], not -1}}
  %q = "tiny.rescale"(%acc, %m, %offset) {shift = 40 : i32, min = -128 : i32, max = 127 : i32} : (i32, i32, i64) -> i8
  return %q : i8
}

// -----

func.func @nothing_between(%acc: i32, %m: i32, %offset: i64) -> i8 {
  // expected-error@+1 {{'tiny.rescale' op min must not exceed max, but 5 > 4}}
  %q = "tiny.rescale"(%acc, %m, %offset) {shift = 40 : i32, min = 5 : i32, max = 4 : i32} : (i32, i32, i64) -> i8
  return %q : i8
}
