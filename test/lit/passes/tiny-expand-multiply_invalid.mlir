// RUN: tinymlir-opt %s --verify-diagnostics --tiny-expand-multiply -o /dev/null

func.func @f(%a: i64, %b: i64) -> i64 {
  // expected-error@+1 {{has no long product of i64 for this core}}
  %low, %high = arith.mulsi_extended %a, %b : i64
  return %high : i64
}
