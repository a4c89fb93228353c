// RUN: tinymlir-opt %s --split-input-file --tiny-merge-functions=least-operations=4 | FileCheck %s
// RUN: tinymlir-opt %s --split-input-file --tiny-merge-functions | FileCheck %s --check-prefix=FEW

memref.global "private" constant @w0 : memref<2xi8> = dense<[1, 2]>
memref.global "private" constant @w1 : memref<2xi8> = dense<[3, 4]>

// What a helper reads is handed through its callers; constants that differ go the same way, each
// once, and the number 8 that is the same constant as another one too.
// CHECK-LABEL: func.func private @layer0(
// CHECK-NEXT: memref.get_global @w0
// CHECK-NEXT: arith.constant 8 : i32
// CHECK-NEXT: call @layer0_shared(%{{.*}}, %{{.*}}, %{{.*}})
// CHECK-NEXT: return
// CHECK-LABEL: func.func private @layer0_shared(
// CHECK-SAME: memref<2xi32>, %{{.*}}: memref<2xi8> {llvm.noalias}, %{{.*}}: i32)
// CHECK-DAG: arith.constant 8 : i32
// CHECK-DAG: call @layer0_help_shared(
// CHECK: return
// CHECK-LABEL: func.func private @layer0_help_shared(
// CHECK-NOT: memref.get_global
// CHECK: return
// CHECK-LABEL: func.func private @layer1(
// CHECK-DAG: memref.get_global @w1
// CHECK-DAG: arith.constant -5 : i32
// CHECK: call @layer0_shared
// CHECK-NEXT: return
// CHECK-NOT: @layer1_help
// A shift is part of an instruction.
// CHECK-LABEL: func.func private @layer2(
// CHECK: call @layer0_help_shared
// CHECK: memref.store
// Little code is not worth a call.
// FEW-NOT: shared
func.func private @layer0(%x: memref<2xi32>) attributes {tiny.layer = "a"} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 8 : i32
  func.call @layer0_help(%x) : (memref<2xi32>) -> ()
  %a = memref.load %x[%c0] : memref<2xi32>
  %s = arith.addi %a, %zero : i32
  %d = arith.shrsi %s, %zero : i32
  memref.store %d, %x[%c0] : memref<2xi32>
  return
}
func.func private @layer0_help(%x: memref<2xi32>) {
  %c0 = arith.constant 0 : index
  %w = memref.get_global @w0 : memref<2xi8>
  %a = memref.load %w[%c0] : memref<2xi8>
  %b = arith.extsi %a : i8 to i32
  memref.store %b, %x[%c0] : memref<2xi32>
  return
}
func.func private @layer1(%x: memref<2xi32>) attributes {tiny.layer = "b"} {
  %zero = arith.constant -5 : i32
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : i32
  func.call @layer1_help(%x) : (memref<2xi32>) -> ()
  %a = memref.load %x[%c0] : memref<2xi32>
  %s = arith.addi %a, %zero : i32
  %d = arith.shrsi %s, %c8 : i32
  memref.store %d, %x[%c0] : memref<2xi32>
  return
}
func.func private @layer1_help(%x: memref<2xi32>) {
  %c0 = arith.constant 0 : index
  %w = memref.get_global @w1 : memref<2xi8>
  %a = memref.load %w[%c0] : memref<2xi8>
  %b = arith.extsi %a : i8 to i32
  memref.store %b, %x[%c0] : memref<2xi32>
  return
}
func.func private @layer2(%x: memref<2xi32>) attributes {tiny.layer = "c"} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 8 : i32
  %c9 = arith.constant 9 : i32
  func.call @layer1_help(%x) : (memref<2xi32>) -> ()
  %a = memref.load %x[%c0] : memref<2xi32>
  %s = arith.addi %a, %zero : i32
  %d = arith.shrsi %s, %c9 : i32
  memref.store %d, %x[%c0] : memref<2xi32>
  return
}

// -----

// What differs in more than constants stays.
// CHECK-LABEL: func.func private @layer0
// CHECK-NOT: shared
func.func private @layer0(%x: memref<2xi32>) attributes {tiny.layer = "a"} {
  %c0 = arith.constant 0 : index
  %a = memref.load %x[%c0] : memref<2xi32>
  %s = arith.addi %a, %a : i32
  memref.store %s, %x[%c0] : memref<2xi32>
  return
}
func.func private @layer1(%x: memref<2xi32>) attributes {tiny.layer = "b"} {
  %c0 = arith.constant 0 : index
  %a = memref.load %x[%c0] : memref<2xi32>
  %s = arith.muli %a, %a : i32
  memref.store %s, %x[%c0] : memref<2xi32>
  return
}

// -----

memref.global "private" constant @w0 : memref<2xi8> = dense<[1, 2]>
memref.global "private" constant @w1 : memref<2xi8> = dense<[3, 4]>

// What a function gives goes to whoever calls it.
// CHECK-LABEL: func.func @callers
// CHECK: %[[A:.*]] = call @first_shared(%{{.*}}, %{{.*}}) : (index, memref<2xi8>) -> i32
// CHECK: %[[B:.*]] = call @first_shared(%{{.*}}, %{{.*}}) : (index, memref<2xi8>) -> i32
// CHECK: arith.subi %[[A]], %[[B]]
// CHECK-NOT: @second
func.func @callers(%i: index) -> i32 {
  %a = func.call @first(%i) : (index) -> i32
  %b = func.call @second(%i) : (index) -> i32
  %c = arith.subi %a, %b : i32
  return %c : i32
}
func.func private @first(%i: index) -> i32 {
  %w = memref.get_global @w0 : memref<2xi8>
  %a = memref.load %w[%i] : memref<2xi8>
  %b = arith.extsi %a : i8 to i32
  return %b : i32
}
func.func private @second(%i: index) -> i32 {
  %w = memref.get_global @w1 : memref<2xi8>
  %a = memref.load %w[%i] : memref<2xi8>
  %b = arith.extsi %a : i8 to i32
  return %b : i32
}

// -----

memref.global "private" constant @w0 : memref<2xi8> = dense<[1, 2]>
memref.global "private" constant @w1 : memref<3xi8> = dense<[3, 4, 5]>
memref.global "private" constant @w2 : memref<4xi8> = dense<[6, 7, 8, 9]>

// Constants of which the address alone is taken may be of any size.
// CHECK-LABEL: func.func private @a(
// CHECK: call @a_shared(%{{.*}}, %{{.*}}) : (memref<1xi8>, memref<2xi8>) -> ()
// CHECK-LABEL: func.func private @b(
// CHECK: %[[W:.*]] = memref.get_global @w1 : memref<3xi8>
// CHECK: %[[SAME:.*]] = builtin.unrealized_conversion_cast %[[W]] : memref<3xi8> to memref<2xi8>
// CHECK: call @a_shared(%{{.*}}, %[[SAME]])
// Others have theirs in what is read of them.
// CHECK-LABEL: func.func private @c(
// CHECK-NOT: call
func.func private @a(%x: memref<1xi8>) attributes {tiny.layer = "a"} {
  %c0 = arith.constant 0 : index
  %w = memref.get_global @w0 : memref<2xi8>
  %p = builtin.unrealized_conversion_cast %w : memref<2xi8> to !llvm.struct<(ptr, ptr, i32, array<1 x i32>, array<1 x i32>)>
  %q = llvm.extractvalue %p[1] : !llvm.struct<(ptr, ptr, i32, array<1 x i32>, array<1 x i32>)>
  %v = llvm.load %q : !llvm.ptr -> i8
  memref.store %v, %x[%c0] : memref<1xi8>
  return
}
func.func private @b(%x: memref<1xi8>) attributes {tiny.layer = "b"} {
  %c0 = arith.constant 0 : index
  %w = memref.get_global @w1 : memref<3xi8>
  %p = builtin.unrealized_conversion_cast %w : memref<3xi8> to !llvm.struct<(ptr, ptr, i32, array<1 x i32>, array<1 x i32>)>
  %q = llvm.extractvalue %p[1] : !llvm.struct<(ptr, ptr, i32, array<1 x i32>, array<1 x i32>)>
  %v = llvm.load %q : !llvm.ptr -> i8
  memref.store %v, %x[%c0] : memref<1xi8>
  return
}
func.func private @c(%x: memref<1xi8>) attributes {tiny.layer = "c"} {
  %c0 = arith.constant 0 : index
  %w = memref.get_global @w2 : memref<4xi8>
  %p = builtin.unrealized_conversion_cast %w : memref<4xi8> to !llvm.struct<(ptr, ptr, i32, array<1 x i32>, array<1 x i32>)>
  %q = llvm.extractvalue %p[1] : !llvm.struct<(ptr, ptr, i32, array<1 x i32>, array<1 x i32>)>
  %v = memref.load %w[%c0] : memref<4xi8>
  memref.store %v, %x[%c0] : memref<1xi8>
  return
}
