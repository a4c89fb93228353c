// An i8's zero point.
func.func @f(%a: i32) -> i8 {
  // expected-error@+1 {{'128 : i32' does not satisfy the constraint}}
  %q = "tiny.requantize"(%a, %a, %a) {zero_point = 128 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// An i32 attribute.
func.func @f(%a: i32) -> i8 {
  // expected-error@+1 {{'0 : i64' does not satisfy the constraint}}
  %q = "tiny.requantize"(%a, %a, %a) {zero_point = 0 : i32, min = 0 : i64, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// A known mode.
func.func @f(%a: i32) -> i8 {
  // expected-error@+1 {{'"to_zero"' does not satisfy the constraint}}
  %q = "tiny.requantize"(%a, %a, %a) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "to_zero"} : (i32, i32, i32) -> i8
  return %q : i8
}
