// RUN: tinymlir-opt %s --split-input-file --tiny-emit-entry | FileCheck %s

// Every function but a declaration is renamed, and its callers with it; private ones are internal. A
// layer that works in place gets one buffer twice, so its pointers may alias; numbers
// have no such thing. What was known of arguments stays known.
// CHECK: func.func @network_invoke
// CHECK-SAME: (%{{[a-z0-9]+}}: memref<8xi8> {llvm.noalias, tiny.name = "x"}, %{{[a-z0-9]+}}: memref<8xi8> {llvm.noalias}) -> i32
// CHECK: call @network_layer0
// CHECK-NEXT: call @network_layer1
// CHECK-NEXT: call @elsewhere
// CHECK-NEXT: %[[ZERO:.*]] = arith.constant 0 : i32
// CHECK-NEXT: return %[[ZERO]] : i32
// CHECK: func.func private @network_layer0(%{{[a-z0-9]+}}: memref<8xi8> {llvm.noalias}, %{{[a-z0-9]+}}: index)
// CHECK-SAME: #llvm.linkage<internal>
// CHECK: call @network_layer1
// CHECK: func.func private @network_layer1(%{{[a-z0-9]+}}: memref<8xi8>, %{{[a-z0-9]+}}: memref<8xi8>)
// CHECK-SAME: #llvm.linkage<internal>
// CHECK: func.func private @elsewhere(memref<8xi8>){{$}}
// What is not private is another entry point.
// CHECK: func.func @network_choose(%{{[a-z0-9]+}}: memref<1xi32> {llvm.noalias}) {
// CHECK: memref.global "private" constant @weights
func.func @main(%x: memref<8xi8> {tiny.name = "x"}, %arena: memref<8xi8>) {
  %c0 = arith.constant 0 : index
  call @layer0(%x, %c0) : (memref<8xi8>, index) -> ()
  call @layer1(%arena, %arena) : (memref<8xi8>, memref<8xi8>) -> ()
  call @elsewhere(%x) : (memref<8xi8>) -> ()
  return
}
func.func private @layer0(%x: memref<8xi8>, %i: index) {
  call @layer1(%x, %x) : (memref<8xi8>, memref<8xi8>) -> ()
  return
}
func.func private @layer1(%x: memref<8xi8>, %y: memref<8xi8>) attributes {tiny.aliased} {
  return
}
func.func private @elsewhere(memref<8xi8>)
func.func @choose(%state: memref<1xi32>) {
  return
}
memref.global "private" constant @weights : memref<2xi8> = dense<1>

// -----

// Where rows arrive, what takes them and what comes after them are entry points of their own.
// CHECK-LABEL: func.func @network_begin
// CHECK-SAME: (%[[A:.*]]: memref<16xi8> {llvm.noalias}) -> i32
// CHECK: %[[WORK:.*]] = memref.view %[[A]]
// CHECK: call @network_begin_rows(%[[WORK]])
// CHECK-LABEL: func.func @network_push_rows
// CHECK-SAME: (%[[A:.*]]: memref<16xi8> {llvm.noalias}, %[[X:.*]]: memref<1x2x4x1xi8> {llvm.noalias}, %[[N:.*]]: i32) -> i32
// CHECK: %[[MISSING:.*]] = call @network_take(%[[X]], %[[N]], %{{.*}})
// CHECK: return %[[MISSING]]
// CHECK-LABEL: func.func @network_finish
// CHECK-SAME: (%{{.*}}: memref<16xi8> {llvm.noalias}, %[[Y:.*]]: memref<8xi8> {llvm.noalias}) -> i32
// CHECK: %[[MISSING:.*]] = call @network_end
// CHECK: scf.if
// CHECK: func.call @network_layer(%{{.*}}, %[[Y]])
// CHECK: return %[[MISSING]]
// CHECK-LABEL: func.func @network_invoke
// CHECK-SAME: (%[[X:.*]]: memref<1x2x4x1xi8> {llvm.noalias}, %[[Y:.*]]: memref<8xi8> {llvm.noalias}, %[[A:.*]]: memref<16xi8> {llvm.noalias}) -> i32
// CHECK: call @network_begin(%[[A]])
// CHECK: call @network_push_rows(%[[A]], %[[X]], %{{.*}})
// CHECK: call @network_finish(%[[A]], %[[Y]])
func.func @main(%x: memref<1x2x4x1xi8>, %y: memref<8xi8>, %arena: memref<16xi8>) {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : i32
  %work = memref.view %arena[%c0][] : memref<16xi8> to memref<8xi8>
  call @begin_rows(%work) : (memref<8xi8>) -> ()
  %a = call @take(%x, %c2, %work) : (memref<1x2x4x1xi8>, i32, memref<8xi8>) -> i32
  %b = call @end(%work) : (memref<8xi8>) -> i32
  call @layer(%work, %y) : (memref<8xi8>, memref<8xi8>) -> ()
  return
}
func.func private @begin_rows(%work: memref<8xi8>) attributes {tiny.streaming = "begin"} { return }
func.func private @take(%x: memref<1x2x4x1xi8>, %n: i32, %work: memref<8xi8>) -> i32
    attributes {tiny.streaming = "push"} { return %n : i32 }
func.func private @end(%work: memref<8xi8>) -> i32 attributes {tiny.streaming = "finish"} {
  %c0 = arith.constant 0 : i32
  return %c0 : i32
}
func.func private @layer(%x: memref<8xi8>, %y: memref<8xi8>) { return }
