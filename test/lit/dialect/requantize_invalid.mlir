// RUN: tinymlir-opt %s --verify-diagnostics --split-input-file -o /dev/null

// Rounding is one of the modes.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op rounding must be one of float32, nearest_even, nearest_up, double, not "to_zero"}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "to_zero"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Rounding is a string.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op rounding must be one of float32, nearest_even, nearest_up, double, not 1 : i32}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = 1 : i32} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// The zero point is an i32.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op zero_point must be an i32 integer, not 0 : i64}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i64, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// The zero point is that of an i8.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op zero_point must be in [-128, 127], not 128}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 128 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Min is an i32.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op min must be an i32 integer, not -1.280000e+02 : f32}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128.0 : f32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Min is in the range of i8.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op min must be in [-128, 127], not -129}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -129 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Max is an i32.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op max must be an i32 integer, not 127 : i8}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i8, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Max is in the range of i8.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op max must be in [-128, 127], not 255}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128 : i32, max = 255 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Min does not exceed max.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op min must not exceed max, but 5 > 4}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = 5 : i32, max = 4 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// A constant multiplier is not negative.
func.func @f(%acc: i32, %shift: i32) -> i8 {
  %multiplier = arith.constant -1 : i32
  // expected-error@+1 {{'tiny.requantize' op multiplier must be in [0, 2147483647], not -1}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// A constant shift is not negative.
func.func @f(%acc: i32, %multiplier: i32) -> i8 {
  %shift = arith.constant -1 : i32
  // expected-error@+1 {{'tiny.requantize' op shift must be in [0, 62], not -1}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// A constant shift is at most 62.
func.func @f(%acc: i32, %multiplier: i32) -> i8 {
  %shift = arith.constant 63 : i32
  // expected-error@+1 {{'tiny.requantize' op shift must be in [0, 62], not 63}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// A constant multiplier is a float32's significand for float32.
func.func @f(%acc: i32, %shift: i32) -> i8 {
  %multiplier = arith.constant 16777217 : i32
  // expected-error@+1 {{'tiny.requantize' op multiplier must have at most 24 significant bits for float32, not 16777217}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "float32"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// The zero point is there.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op attribute "zero_point" is expected but not provided}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Min is there.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op attribute "min" is expected but not provided}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Max is there.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op attribute "max" is expected but not provided}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Rounding is there.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{'tiny.requantize' op attribute "rounding" is expected but not provided}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// There are three operands.
func.func @f(%acc: i32, %multiplier: i32) -> i8 {
  // expected-error@+1 {{op expects exactly 3 operands, but got 2}}
  %q = "tiny.requantize"(%acc, %multiplier) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32) -> i8
  return %q : i8
}

// -----

// The operands are i32.
func.func @f(%acc: i64, %multiplier: i32, %shift: i32) -> i8 {
  // expected-error@+1 {{expected 'i32' but got 'i64'}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i64, i32, i32) -> i8
  return %q : i8
}

// -----

// The result is i8.
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i32 {
  // expected-error@+1 {{expected 'i8' but got 'i32'}}
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i32
  return %q : i32
}

// -----

// The dialect has no other operations.
// expected-error@+1 {{unregistered operation 'tiny.dequantize' found in dialect ('tiny')}}
"tiny.dequantize"() : () -> ()
