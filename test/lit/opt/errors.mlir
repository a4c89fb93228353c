// Errors carry file, line and column, and show the line.
// RUN: not tinymlir-opt %s 2>&1 | FileCheck %s --strict-whitespace --match-full-lines

//      CHECK:{{.*}}errors.mlir:9:19: error: use of value '%a' expects different type than prior uses: 'i64' vs 'i32'
// CHECK-NEXT:  %x = arith.addi %a, %a : i64
// CHECK-NEXT:                  ^
// CHECK-NEXT:{{.*}}errors.mlir:8:14: note: prior use here
func.func @f(%a: i32) {
  %x = arith.addi %a, %a : i64
  return
}
