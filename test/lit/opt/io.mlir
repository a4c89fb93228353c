// Input and output: a file or the standard streams; nothing is left where writing fails.
// RUN: tinymlir-opt < %s | FileCheck %s
// RUN: tinymlir-opt - < %s | FileCheck %s
// RUN: rm -rf %t && mkdir %t
// RUN: tinymlir-opt %s -o %t/a.mlir && FileCheck %s --input-file %t/a.mlir
// RUN: tinymlir-opt -o=%t/a.mlir %t/a.mlir && FileCheck %s --input-file %t/a.mlir
// RUN: not tinymlir-opt %s -o %t/none/a.mlir 2>&1 | FileCheck %s --check-prefix=NODIR
// RUN: not tinymlir-opt %t/missing.mlir 2>&1 | FileCheck %s --check-prefix=NOFILE
// RUN: not tinymlir-opt %S/inputs/not_text.bin 2>&1 | FileCheck %s --check-prefix=BINARY
// RUN: echo "func.func @" > %t/bad.mlir
// RUN: not tinymlir-opt %t/bad.mlir -o %t/bad.out.mlir
// RUN: ls -a %t | FileCheck %s --check-prefix=LEFT
// RUN: not tinymlir-opt < %t/bad.mlir 2>&1 | FileCheck %s --check-prefix=STDIN
// RUN: echo "" | tinymlir-opt | FileCheck %s --check-prefix=EMPTY

// CHECK-LABEL: func.func @f()
// NODIR: tinymlir-opt: error: {{.*}}a.mlir: cannot be written: there is no such directory
// NOFILE: tinymlir-opt: error: {{.*}}missing.mlir: cannot open the input file: No such file or directory
// BINARY: tinymlir-opt: error: {{.*}}not_text.bin: the input is not UTF-8 text
// LEFT: {{^}}a.mlir
// LEFT-NEXT: {{^}}bad.mlir
// LEFT-NOT: {{.+}}
// STDIN: <stdin>:1:12: error:
// EMPTY: module {
func.func @f() {
  return
}
