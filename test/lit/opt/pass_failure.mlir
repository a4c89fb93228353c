// A Python pass that fails, or leaves bad IR, is reported as a native one would be.
// RUN: not tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --test-misbehave 2>&1 | FileCheck %s --check-prefix=FAIL
// RUN: not tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --test-misbehave=how=invalid 2>&1 | FileCheck %s --check-prefix=INVALID
// RUN: not tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --test-misbehave=how=budget 2>&1 | FileCheck %s --check-prefix=BUDGET
// RUN: tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --test-misbehave=how=invalid --verify-each=0 | FileCheck %s --check-prefix=GENERIC
// RUN: tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --test-misbehave=how=invalid --no-verify | FileCheck %s --check-prefix=GENERIC

// FAIL: pass_failure.mlir:21:8: error: no products here
// FAIL-NEXT: %x = arith.muli %a, %a : i32
// FAIL-NEXT: ^
// FAIL-NEXT: tinymlir-opt: error: the pass pipeline failed in test-misbehave
// FAIL-NOT: {{.}}

// INVALID: pass_failure.mlir:20:1: error: 'func.func' op entry block must have 0 arguments to match function signature
// INVALID: tinymlir-opt: error: the pass pipeline left IR that does not verify, after test-misbehave

// BUDGET: <unknown>:0: error: the budget cannot be met; the least is 12 bytes

// GENERIC: "func.func"() <{function_type = () -> (), sym_name = "f"}>
func.func @f(%a: i32) -> i32 {
  %x = arith.muli %a, %a : i32
  return %x : i32
}
