// Passes as flags run in the order given, each at the level that it is for; one dash does for two.
// RUN: tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --test-mark=label=first --cse --test-mark='label=second how=append' -canonicalize --test-count=key=n | FileCheck %s
// RUN: tinymlir-opt -load-pass-plugin %S/inputs/plugin.py -test-mark='{label=first}' --cse -test-mark='how=append label=second' --test-count='{key=n}' -o - -- %s | FileCheck %s
// RUN: tinymlir-opt %s --load-pass-plugin=%S/inputs/plugin.py --llvm-request-c-wrappers --test-mark --dump-pass-pipeline 2>&1 | FileCheck %s --check-prefix=DUMP
// RUN: tinymlir-opt %s --canonicalize='max-iterations=3 region-simplify=disabled' --mlir-disable-threading | FileCheck %s --check-prefix=PLAIN

// CHECK: module attributes {tiny.n = 1 : i32} {
// CHECK-NEXT: attributes {mark = "first+second"}
// CHECK-NEXT: arith.addi
// CHECK-NEXT: return

// DUMP: Pass pipeline: builtin.module(func.func(llvm-request-c-wrappers),func.func(test-mark))
// DUMP: attributes {llvm.emit_c_interface, mark = "seen"}

// PLAIN: arith.addi
// PLAIN-NEXT: arith.addi
func.func @twice(%a: i32) -> (i32, i32) {
  %x = arith.addi %a, %a : i32
  %y = arith.addi %a, %a : i32
  return %x, %y : i32, i32
}
