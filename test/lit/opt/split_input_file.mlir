// Parts are processed alone, and a bad one does not stop the others; lines are the file's.
// RUN: not tinymlir-opt %s --split-input-file --canonicalize 2>%t.err | FileCheck %s
// RUN: FileCheck %s --check-prefix=ERROR --input-file %t.err
// RUN: not tinymlir-opt %s 2>&1 | FileCheck %s --check-prefix=WHOLE
// RUN: sed -e 's,^// -----$,// next,' %s > %t.mlir
// RUN: not tinymlir-opt %t.mlir '--split-input-file=// next' --canonicalize 2>%t.err | FileCheck %s
// RUN: FileCheck %s --check-prefix=ERROR --input-file %t.err

// ERROR: :22:10: error: use of undeclared SSA value name
// ERROR-NEXT: return %nothing : i32
// ERROR-NEXT: ^
// ERROR-NOT: error:

// WHOLE: :22:10: error: use of undeclared SSA value name

// CHECK: func.func @same()
func.func @same() {
  return
}
// -----
func.func @same() -> i32 {
  return %nothing : i32
}
// -----
// CHECK: // -----
// CHECK-NEXT: // -----
// CHECK-NEXT: module {
// CHECK-NEXT: func.func @same(%{{.*}}: i32)
func.func @same(%a: i32) {
  return
}
