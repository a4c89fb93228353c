// Our passes and native ones mix freely in one pipeline, nested or not.
// RUN: tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --pass-pipeline='builtin.module(func.func(cse,test-mark{label=a counts=1,2},canonicalize),test-count{key=functions},symbol-dce)' | FileCheck %s --check-prefix=MIX
// RUN: tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --pass-pipeline='func.func( test-mark{ label="two words" loud } , cse ) , test-count{key={after}}' | FileCheck %s --check-prefix=BARE
// RUN: tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --pass-pipeline='any(any(test-name),builtin.module(test-name),func.func(test-mark))' | FileCheck %s --check-prefix=ANY
// RUN: tinymlir-opt %s --pass-pipeline='builtin.module(inline{default-pipeline=canonicalize op-pipelines=func.func(canonicalize,cse)})' | FileCheck %s --check-prefix=NATIVE
// RUN: tinymlir-opt %s --pass-pipeline='builtin.module()' | FileCheck %s --check-prefix=NOTHING

// The private function goes last: it is still there when operations are counted.
// MIX: module attributes {tiny.functions = 3 : i32} {
// MIX-NEXT: func.func @twice(%[[A:.*]]: i32) -> (i32, i32) attributes {mark = "a,1,2"} {
// MIX-NEXT: %[[X:.*]] = arith.addi %[[A]], %[[A]] : i32
// MIX-NEXT: return %[[X]], %[[X]] : i32, i32
// MIX-NOT: @unused

// BARE: module attributes {tiny.after = 3 : i32} {
// BARE-NEXT: func.func @twice(%{{.*}}: i32) -> (i32, i32) attributes {mark = "TWO WORDS"} {
// BARE-NEXT: arith.addi
// BARE-NEXT: return
// BARE: func.func private @unused() attributes {mark = "TWO WORDS"}
// BARE: module {

// ANY: module {
// ANY: @twice({{.*}} attributes {mark = "seen", tiny.named = "func.func"}
// ANY: @unused() attributes {mark = "seen", tiny.named = "func.func"}
// ANY: module attributes {tiny.named = "builtin.module"}

// NATIVE: arith.addi
// NATIVE-NEXT: return
// NATIVE-NOT: @unused

// NOTHING: arith.addi
// NOTHING-NEXT: arith.addi
func.func @twice(%a: i32) -> (i32, i32) {
  %x = arith.addi %a, %a : i32
  %y = arith.addi %a, %a : i32
  return %x, %y : i32, i32
}
func.func private @unused() {
  return
}
module {}
