// RUN: tinymlir-opt %s --split-input-file --tiny-link-levels | FileCheck %s

// What is the same but for its name is there once: constants whose values are equal, helpers,
// and layers that call the same helpers. What differs in its body, or in what is known of it, is
// there for each level. What is known of arguments stays known, and so is what is known of modules.
// CHECK: module attributes {tiny.known}
// CHECK: memref.global "private" constant @weights_0 : memref<2xi8> = dense<1>
// CHECK-NEXT: memref.global "private" constant @weights_1 : memref<2xi8> = dense<2>
// CHECK: func.func private @level0(
// CHECK: call @layer0
// CHECK-NEXT: call @layer1
// CHECK-NEXT: call @layer2
// CHECK: func.func private @layer0(
// CHECK-NEXT: get_global @weights_0
// CHECK-NEXT: call @layer0_border
// CHECK: func.func private @layer0_border(
// CHECK: func.func private @layer1(
// CHECK-NEXT: get_global @weights_1
// CHECK: func.func private @layer2(
// CHECK-SAME: tiny.aliased
// CHECK: func.func private @level1(
// CHECK: call @layer0
// CHECK-NEXT: call @level1_layer1
// CHECK-NEXT: call @level1_layer2
// CHECK-NOT: memref.global
// CHECK: func.func private @level1_layer1(
// CHECK-NEXT: get_global @weights_0
// CHECK: func.func private @level1_layer2(
// CHECK-NOT: func.func private @l
// CHECK: func.func private @run_level(%[[LEVEL:[a-z0-9]+]]: i32, %[[X:[a-z0-9]+]]: memref<8xi8>, %[[Y:[a-z0-9]+]]: memref<8xi8>, %[[ARENA:[a-z0-9]+]]: memref<20xi8>) -> i32
// CHECK: scf.index_switch
// CHECK: case 1 {
// CHECK: %[[OWN:.*]] = memref.view %[[ARENA]][%{{.*}}][] : memref<20xi8> to memref<20xi8>
// CHECK-NEXT: call @level1(%[[X]], %[[Y]], %[[OWN]])
// CHECK: default {
// CHECK: %[[OWN:.*]] = memref.view %[[ARENA]][%{{.*}}][] : memref<20xi8> to memref<4xi8>
// CHECK-NEXT: call @level0(%[[X]], %[[Y]], %[[OWN]])
// CHECK: func.func @main(%{{[a-z0-9]+}}: memref<1xi32>, %{{[a-z0-9]+}}: memref<8xi8> {tiny.name = "x"}, %{{[a-z0-9]+}}: memref<8xi8> {tiny.name = "y"}, %{{[a-z0-9]+}}: memref<20xi8>)
// CHECK: call @run_level
// CHECK: func.func @set_level(%{{[a-z0-9]+}}: memref<1xi32>, %[[LEVEL:[a-z0-9]+]]: i32) -> i32
// CHECK: %[[COUNT:.*]] = arith.constant 2 : i32
// CHECK: arith.cmpi ult, %[[LEVEL]], %[[COUNT]]
module {
  module attributes {tiny.known} {
    memref.global "private" constant @weights_0 : memref<2xi8> = dense<1>
    memref.global "private" constant @weights_1 : memref<2xi8> = dense<2>
    func.func @main(%x: memref<8xi8> {tiny.name = "x"}, %y: memref<8xi8> {tiny.name = "y"}, %arena: memref<4xi8>) {
      call @layer0(%x, %y) : (memref<8xi8>, memref<8xi8>) -> ()
      call @layer1(%y) : (memref<8xi8>) -> ()
      call @layer2(%y) : (memref<8xi8>) -> ()
      return
    }
    func.func private @layer0(%x: memref<8xi8>, %y: memref<8xi8>) {
      %w = memref.get_global @weights_0 : memref<2xi8>
      call @layer0_border(%x) : (memref<8xi8>) -> ()
      return
    }
    func.func private @layer0_border(%x: memref<8xi8>) {
      return
    }
    func.func private @layer1(%x: memref<8xi8>) {
      %w = memref.get_global @weights_1 : memref<2xi8>
      return
    }
    func.func private @layer2(%x: memref<8xi8>) attributes {tiny.aliased, tiny.layer = "last"} {
      return
    }
  }
  module {
    memref.global "private" constant @weights_1 : memref<2xi8> = dense<1>
    func.func @main(%x: memref<8xi8>, %y: memref<8xi8>, %arena: memref<20xi8>) {
      call @layer0(%x, %y) : (memref<8xi8>, memref<8xi8>) -> ()
      call @layer1(%y) : (memref<8xi8>) -> ()
      call @layer2(%y) : (memref<8xi8>) -> ()
      return
    }
    func.func private @layer0(%x: memref<8xi8>, %y: memref<8xi8>) {
      %w = memref.get_global @weights_1 : memref<2xi8>
      call @layer0_border(%x) : (memref<8xi8>) -> ()
      return
    }
    func.func private @layer0_border(%x: memref<8xi8>) {
      return
    }
    func.func private @layer1(%x: memref<8xi8>) {
      %w = memref.get_global @weights_1 : memref<2xi8>
      return
    }
    func.func private @layer2(%x: memref<8xi8>) attributes {tiny.layer = "last"} {
      return
    }
  }
}

// -----

// Levels that are the same as a whole are levels nevertheless.
// CHECK: func.func private @level0(
// CHECK: func.func private @level1(
// CHECK: case 1 {
// CHECK: call @level1
module {
  module {
    func.func @main(%x: memref<8xi8>, %y: memref<8xi8>, %arena: memref<4xi8>) {
      return
    }
  }
  module {
    func.func @main(%x: memref<8xi8>, %y: memref<8xi8>, %arena: memref<4xi8>) {
      return
    }
  }
}
