// RUN: tinymlir-opt %s --tiny-load-pairs | FileCheck %s
// RUN: tinymlir-opt %s --tiny-load-pairs=ldrd=true | FileCheck %s --check-prefix=LDRD

// CHECK: llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr -> i64
// LDRD: llvm.load volatile %{{.*}} {alignment = 4 : i64} : !llvm.ptr -> i64
llvm.func @pair(%p: !llvm.ptr) -> i64 {
  %v = llvm.load %p : !llvm.ptr -> i64
  llvm.return %v : i64
}

// Single words are left alone.
// CHECK: llvm.load %{{.*}} : !llvm.ptr -> i32
// LDRD: llvm.load %{{.*}} : !llvm.ptr -> i32
llvm.func @word(%p: !llvm.ptr) -> i32 {
  %v = llvm.load %p : !llvm.ptr -> i32
  llvm.return %v : i32
}
