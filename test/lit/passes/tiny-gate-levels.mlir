// RUN: tinymlir-opt %s --tiny-gate-levels | FileCheck %s

// Scores may have any shape in which one dimension is that of the classes. The exact level is not
// run again, however close its scores are.
// CHECK: func.func @invoke_gated(%{{.*}}: memref<1xi32>, %[[X:.*]]: memref<8xi8> {tiny.name = "x"}, %[[Y:.*]]: memref<1x1x5xi8>, %[[ARENA:.*]]: memref<8xi8>, %[[MARGIN:.*]]: i32) -> i32
// CHECK: %[[RAN:.*]] = call @run_level(%{{.*}}, %[[X]], %[[Y]], %[[ARENA]])
// CHECK: %[[FLAT:.*]] = memref.collapse_shape %[[Y]]
// CHECK: scf.for
// CHECK: memref.load %[[FLAT]]
// CHECK: %[[LEAD:.*]] = arith.subi
// CHECK: %[[CLOSE:.*]] = arith.cmpi slt, %[[LEAD]], %[[MARGIN]]
// CHECK: %[[FAST:.*]] = arith.cmpi ne, %[[RAN]], %[[ZERO:.*]] : i32
// CHECK: %[[AGAIN:.*]] = arith.andi %[[FAST]], %[[CLOSE]]
// CHECK: scf.if %[[AGAIN]]
// CHECK: call @run_level(%[[ZERO]], %[[X]], %[[Y]], %[[ARENA]])
func.func @main(%state: memref<1xi32>, %x: memref<8xi8> {tiny.name = "x"}, %y: memref<1x1x5xi8>, %arena: memref<8xi8>) {
  return
}
func.func private @run_level(i32, memref<8xi8>, memref<1x1x5xi8>, memref<8xi8>) -> i32
