// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-expand-division -o /dev/null

func.func @f(%a: i64, %b: i64) -> i64 {
  // expected-error@+1 {{has no division of i64 for this core}}
  %q = arith.divui %a, %b : i64
  return %q : i64
}

// -----

func.func @f(%a: vector<4xi32>, %b: vector<4xi32>) -> vector<4xi32> {
  // expected-error@+1 {{has no division of vector<4xi32> for this core}}
  %q = arith.remui %a, %b : vector<4xi32>
  return %q : vector<4xi32>
}
