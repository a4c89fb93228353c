// RUN: tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --cse --test-mark --symbol-dce --mlir-print-ir-after-all --mlir-print-ir-before=test-mark -o /dev/null 2>&1 | FileCheck %s --check-prefix=ALL
// RUN: tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --cse --test-mark --symbol-dce --mlir-print-ir-before-all --mlir-print-ir-module-scope -o /dev/null 2>&1 | FileCheck %s --check-prefix=MODULE
// RUN: tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --cse --test-mark --symbol-dce --mlir-print-ir-after=cse,symbol-dce --mlir-print-ir-after-change --mlir-print-op-generic -o /dev/null 2>&1 | FileCheck %s --check-prefix=CHANGE
// RUN: not tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --cse --test-misbehave=how=invalid --mlir-print-ir-after-failure 2>&1 | FileCheck %s --check-prefix=FAILURE
// RUN: tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --pass-pipeline='builtin.module(func.func(test-mark,canonicalize),cse)' --mlir-timing -o /dev/null 2>&1 | FileCheck %s --check-prefix=TIMING

// ALL: // -----// IR Dump After cse (cse) //----- //
// ALL-NEXT: module {
// ALL-NEXT: func.func @f(%[[A:.*]]: i32) -> i32 {
// ALL: // -----// IR Dump Before MarkFunctions (test-mark) //----- //
// ALL-NEXT: func.func @f(%[[A]]: i32) -> i32 {
// ALL: // -----// IR Dump After MarkFunctions (test-mark) //----- //
// ALL-NEXT: func.func @f(%[[A]]: i32) -> i32 attributes {mark = "seen"} {
// ALL: // -----// IR Dump After symbol-dce (symbol-dce) //----- //
// ALL-NEXT: module {

// MODULE: // -----// IR Dump Before cse (cse) ('builtin.module' operation) //----- //
// MODULE-NEXT: module {
// MODULE: // -----// IR Dump Before MarkFunctions (test-mark) ('func.func' operation: @f) //----- //
// MODULE-NEXT: module {
// MODULE: // -----// IR Dump Before symbol-dce (symbol-dce) ('builtin.module' operation) //----- //
// MODULE-NEXT: module {

// Nothing is there for symbol-dce to remove.
// CHANGE: IR Dump After cse (cse)
// CHANGE-NEXT: "builtin.module"() ({
// CHANGE-NOT: IR Dump

// FAILURE-NOT: IR Dump After cse
// FAILURE: IR Dump After Misbehave (test-misbehave) Failed
// FAILURE-NEXT: "func.func"() <{function_type = () -> ()

// TIMING: ... Execution time report ...
// TIMING: Total Execution Time: {{[0-9.]+}} seconds
// TIMING: {{[0-9.]+}} ({{ *[0-9.]+}}%) Parser
// TIMING-NEXT: 'func.func' Pipeline
// TIMING-NEXT: test-mark
// TIMING-NEXT: canonicalize
// TIMING-NEXT: cse
// TIMING-NEXT: Output
// TIMING-NEXT: Rest
// TIMING-NEXT: (100.0%) Total
func.func @f(%a: i32) -> i32 {
  %x = arith.muli %a, %a : i32
  %y = arith.muli %a, %a : i32
  %z = arith.addi %x, %y : i32
  return %z : i32
}
