// RUN: tinymlir-opt %s --split-input-file --tiny-emit-entry | FileCheck %s

// Every function but a declaration is renamed, made internal and its callers with it. A
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
memref.global "private" constant @weights : memref<2xi8> = dense<1>
