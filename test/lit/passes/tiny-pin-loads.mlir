// RUN: tinymlir-opt %s --tiny-pin-loads | FileCheck %s
// RUN: tinymlir-opt %s --tiny-pin-loads=section=.rodata | FileCheck %s --check-prefix=SECTION
// RUN: tinymlir-opt %s --tiny-pin-loads=least-bits=128 | FileCheck %s --check-prefix=WIDE

// CHECK: llvm.mlir.global private constant @table(dense<1> : tensor<4xi32>)
// CHECK-NOT: section
// SECTION: llvm.mlir.global private constant @table(dense<1> : tensor<4xi32>) {{.*}}section = ".rodata"
llvm.mlir.global private constant @table(dense<1> : tensor<4xi32>) {addr_space = 0 : i32} : !llvm.array<4 x i32>

// CHECK-LABEL: llvm.func @vectors
// CHECK: llvm.load volatile %{{.*}} {alignment = 4 : i64} : !llvm.ptr -> vector<8xi32>
llvm.func @vectors(%p: !llvm.ptr) -> vector<8xi32> {
  %v = llvm.load %p {alignment = 4 : i64} : !llvm.ptr -> vector<8xi32>
  llvm.return %v : vector<8xi32>
}

// Scalars may be moved, and vectors stored as LLVM likes.
// CHECK-LABEL: llvm.func @others
// CHECK: llvm.load %{{.*}} : !llvm.ptr -> i32
// CHECK: llvm.store %{{.*}}, %{{.*}} : vector<8xi32>, !llvm.ptr
llvm.func @others(%p: !llvm.ptr, %v: vector<8xi32>) -> i32 {
  %w = llvm.load %p : !llvm.ptr -> i32
  llvm.store %v, %p : vector<8xi32>, !llvm.ptr
  llvm.return %w : i32
}

// An instruction that widens what it loads is found where nothing is pinned.
// CHECK-LABEL: llvm.func @narrow
// CHECK: llvm.load volatile
// WIDE-LABEL: llvm.func @vectors
// WIDE: llvm.load volatile
// WIDE-LABEL: llvm.func @narrow
// WIDE: llvm.load %{{.*}} {alignment = 1 : i64} : !llvm.ptr -> vector<4xi8>
llvm.func @narrow(%p: !llvm.ptr) -> vector<4xi8> {
  %v = llvm.load %p {alignment = 1 : i64} : !llvm.ptr -> vector<4xi8>
  llvm.return %v : vector<4xi8>
}
