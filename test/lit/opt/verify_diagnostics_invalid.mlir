// What is unexpected and what is missing is listed, and the status is 1.
// RUN: not tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --test-misbehave=how=budget --verify-diagnostics --split-input-file -o /dev/null 2>&1 | FileCheck %s
// RUN: not tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --test-misbehave=how=budget --verify-diagnostics=only-expected --split-input-file -o /dev/null 2>&1 | FileCheck %s --check-prefix=ONLY

// CHECK: invalid.mlir:22:6: error: found '{{.*}}' with no matching
// CHECK: invalid.mlir:23:6: error: invalid regular expression
// CHECK: invalid.mlir:24:6: error: unknown place '@here'
// CHECK: invalid.mlir:25:19: error: expected warning here, but got error: use of value '%a' expects
// CHECK-NEXT: %x = arith.addi %a, %a : i64
// CHECK-NEXT: ^
// CHECK: invalid.mlir:21:14: error: unexpected note: prior use here
// CHECK: <unknown>:0: error: unexpected error: the budget cannot be met; the least is 12 bytes
// CHECK: invalid.mlir:25:35: error: expected warning "expects different type" was not produced
// CHECK: invalid.mlir:32:6: error: expected remark "nothing of the kind" was not produced

// ONLY-NOT: unexpected
// ONLY: invalid.mlir:32:6: error: expected remark "nothing of the kind" was not produced

// -----

func.func @f(%a: i32) {
  // expected-error {{never closed
  // expected-error-re {{a {{[}} b}}
  // expected-error@here {{somewhere}}
  %x = arith.addi %a, %a : i64 // expected-warning {{expects different type}}
  return
}

// -----

func.func @g(%a: i32) -> i32 {
  // expected-remark@unknown {{nothing of the kind}}
  %x = arith.muli %a, %a : i32
  return %x : i32
}
