// RUN: tinymlir-opt %s --split-input-file --tiny-plan-arena | FileCheck %s

// A buffer takes the place of one that is dead: %c lies over %a.
// CHECK-LABEL: func.func @main(
// CHECK-SAME: %[[ARENA:[a-z0-9]+]]: memref<32xi8>)
// CHECK-SAME: tiny.arena_bytes = 32 : i64, tiny.arena_lower_bound = 32 : i64
// CHECK-SAME: tiny.live_bytes = array<i64: 16, 32, 20, 4>
// CHECK: %[[A:.*]] = memref.view %[[ARENA]][%[[AT:.*]]][] : memref<32xi8> to memref<4xi32>
// CHECK: %[[C:.*]] = memref.view %[[ARENA]][%{{.*}}][] : memref<32xi8> to memref<1x4xi8>
// CHECK: call @consume(%[[C]], %{{.*}})
func.func @main(%x: memref<8xi8>) -> memref<8xi8> {
  %a = memref.alloc() : memref<4xi32>
  call @make(%x, %a) : (memref<8xi8>, memref<4xi32>) -> ()
  %b = memref.alloc() : memref<16xi8>
  call @convert(%a, %b) : (memref<4xi32>, memref<16xi8>) -> ()
  %c = memref.alloc() : memref<1x4xi8>
  call @shrink(%b, %c) : (memref<16xi8>, memref<1x4xi8>) -> ()
  %y = memref.alloc() : memref<8xi8>
  call @consume(%c, %y) : (memref<1x4xi8>, memref<8xi8>) -> ()
  return %y : memref<8xi8>
}
func.func private @make(memref<8xi8>, memref<4xi32>)
func.func private @convert(memref<4xi32>, memref<16xi8>)
func.func private @shrink(memref<16xi8>, memref<1x4xi8>)
func.func private @consume(memref<1x4xi8>, memref<8xi8>)

// -----

// Results become arguments with their attributes; the layer writes through a view
// of the caller's buffer. A buffer that is two results is written once and copied,
// without a memref.copy, which would need a library.
// CHECK-LABEL: func.func @main(
// CHECK-SAME: %{{[a-z0-9]+}}: memref<8xi8> {tiny.name = "x"}
// CHECK-SAME: %[[FIRST:[a-z0-9]+]]: memref<2x4xi8> {tiny.name = "first"}
// CHECK-SAME: %[[SECOND:[a-z0-9]+]]: memref<8xi8> {tiny.name = "second"}
// CHECK-SAME: memref<0xi8>)
// CHECK: %[[VIEW:.*]] = memref.collapse_shape %[[FIRST]]
// CHECK: call @layer0(%{{[a-z0-9]+}}, %[[VIEW]])
// CHECK-NOT: memref.copy
// CHECK: scf.for
// CHECK: memref.load %[[VIEW]]
// CHECK: memref.store {{.*}}, %[[SECOND]]
// CHECK: return{{$}}
func.func @main(%x: memref<8xi8> {tiny.name = "x"}) -> (memref<2x4xi8> {tiny.name = "first"}, memref<8xi8> {tiny.name = "second"}) {
  %y = memref.alloc() : memref<8xi8>
  call @layer0(%x, %y) : (memref<8xi8>, memref<8xi8>) -> ()
  %v = memref.expand_shape %y [[0, 1]] output_shape [2, 4] : memref<8xi8> into memref<2x4xi8>
  return %v, %y : memref<2x4xi8>, memref<8xi8>
}
func.func private @layer0(memref<8xi8>, memref<8xi8>)

// -----

// An output may lie over an input that dies there, if the layer allows any distance; the
// layer then says that its buffers alias, as does the helper that gets them.
// CHECK-LABEL: func.func @main(
// CHECK-SAME: memref<8xi8>) attributes {tiny.arena_bytes = 8 : i64
// CHECK: %[[T:.*]] = memref.view
// CHECK: %[[U:.*]] = memref.view
// CHECK: call @layer1(%[[T]], %[[U]])
// CHECK: func.func private @layer1({{.*}}tiny.aliased
// CHECK: func.func private @layer1_border({{.*}}tiny.aliased
// CHECK: func.func private @layer2
// CHECK-NOT: tiny.aliased
func.func @main(%x: memref<8xi8>) -> memref<8xi8> {
  %t = memref.alloc() : memref<8xi8>
  call @layer0(%x, %t) : (memref<8xi8>, memref<8xi8>) -> ()
  %u = memref.alloc() : memref<8xi8>
  call @layer1(%t, %u) : (memref<8xi8>, memref<8xi8>) -> ()
  %y = memref.alloc() : memref<8xi8>
  call @layer2(%u, %y) : (memref<8xi8>, memref<8xi8>) -> ()
  return %y : memref<8xi8>
}
func.func private @layer0(memref<8xi8>, memref<8xi8>)
func.func private @layer1(%x: memref<8xi8>, %y: memref<8xi8>) attributes {tiny.inputs = 1 : i64, tiny.overlap = array<i64: 0>} {
  call @layer1_border(%x, %y) : (memref<8xi8>, memref<8xi8>) -> ()
  return
}
func.func private @layer1_border(%x: memref<8xi8>, %y: memref<8xi8>) {
  return
}
func.func private @layer2(%x: memref<8xi8>, %y: memref<8xi8>) attributes {tiny.inputs = 1 : i64, tiny.overlap = array<i64: 0>} {
  return
}

// -----

// It lies over neither an input of the network, nor a buffer that is read later, nor
// one that another operand sees through a reshape: %t, %u and %w are apart.
// CHECK-LABEL: func.func @main(
// CHECK-SAME: tiny.arena_bytes = 24 : i64
// CHECK-NOT: tiny.aliased
func.func @main(%x: memref<8xi8>) -> memref<2x4xi8> {
  %t = memref.alloc() : memref<8xi8>
  call @layer(%x, %x, %t) : (memref<8xi8>, memref<8xi8>, memref<8xi8>) -> ()
  %u = memref.alloc() : memref<8xi8>
  call @layer(%t, %x, %u) : (memref<8xi8>, memref<8xi8>, memref<8xi8>) -> ()
  %u2 = memref.expand_shape %u [[0, 1]] output_shape [2, 4] : memref<8xi8> into memref<2x4xi8>
  %w = memref.alloc() : memref<2x4xi8>
  call @folded(%u2, %u, %w) : (memref<2x4xi8>, memref<8xi8>, memref<2x4xi8>) -> ()
  %y = memref.alloc() : memref<2x4xi8>
  call @folded(%w, %t, %y) : (memref<2x4xi8>, memref<8xi8>, memref<2x4xi8>) -> ()
  return %y : memref<2x4xi8>
}
func.func private @layer(memref<8xi8>, memref<8xi8>, memref<8xi8>) attributes {tiny.inputs = 2 : i64, tiny.overlap = array<i64: 0, 0>}
func.func private @folded(memref<2x4xi8>, memref<8xi8>, memref<2x4xi8>) attributes {tiny.inputs = 2 : i64, tiny.overlap = array<i64: 0, -1>}

// -----

// Nor, after other layers did, over one that only looks like dying there: %c is read once more.
// CHECK-LABEL: func.func @main(
// CHECK-SAME: tiny.arena_bytes = 24 : i64
// CHECK-SAME: tiny.live_bytes = array<i64: 8, 8, 8, 16, 24, 16>
func.func @main(%x: memref<8xi8>) -> memref<8xi8> {
  %a = memref.alloc() : memref<8xi8>
  %b = memref.alloc() : memref<8xi8>
  %c = memref.alloc() : memref<8xi8>
  %d = memref.alloc() : memref<8xi8>
  %e = memref.alloc() : memref<8xi8>
  %y = memref.alloc() : memref<8xi8>
  call @first(%x, %a) : (memref<8xi8>, memref<8xi8>) -> ()
  call @unary(%a, %b) : (memref<8xi8>, memref<8xi8>) -> ()
  call @unary(%b, %c) : (memref<8xi8>, memref<8xi8>) -> ()
  call @unary(%c, %d) : (memref<8xi8>, memref<8xi8>) -> ()
  call @first(%c, %e) : (memref<8xi8>, memref<8xi8>) -> ()
  call @sum(%d, %e, %y) : (memref<8xi8>, memref<8xi8>, memref<8xi8>) -> ()
  return %y : memref<8xi8>
}
func.func private @first(memref<8xi8>, memref<8xi8>)
func.func private @unary(memref<8xi8>, memref<8xi8>) attributes {tiny.inputs = 1 : i64, tiny.overlap = array<i64: 0>}
func.func private @sum(memref<8xi8>, memref<8xi8>, memref<8xi8>)

// -----

// An input that must start 4 bytes above the output does; the two need 12 bytes, not 16.
// CHECK-LABEL: func.func @main(
// CHECK-SAME: tiny.arena_bytes = 12 : i64, tiny.arena_lower_bound = 12 : i64
// CHECK: %[[ABOVE:.*]] = arith.constant 4 : index
// CHECK: %[[T:.*]] = memref.view %{{.*}}[%[[ABOVE]]]
// CHECK: %[[BELOW:.*]] = arith.constant 0 : index
// CHECK: %[[U:.*]] = memref.view %{{.*}}[%[[BELOW]]]
// CHECK: call @window(%[[T]], %[[U]])
func.func @main(%x: memref<8xi8>) -> memref<8xi8> {
  %t = memref.alloc() : memref<8xi8>
  call @first(%x, %t) : (memref<8xi8>, memref<8xi8>) -> ()
  %u = memref.alloc() : memref<8xi8>
  call @window(%t, %u) : (memref<8xi8>, memref<8xi8>) -> ()
  %y = memref.alloc() : memref<8xi8>
  call @first(%u, %y) : (memref<8xi8>, memref<8xi8>) -> ()
  return %y : memref<8xi8>
}
func.func private @first(memref<8xi8>, memref<8xi8>)
func.func private @window(memref<8xi8>, memref<8xi8>) attributes {tiny.inputs = 1 : i64, tiny.overlap = array<i64: 3>}

// -----

// Buffers of other functions are not the network's.
// CHECK-LABEL: func.func @other
// CHECK: memref.alloc
// CHECK-LABEL: func.func @main(%{{[a-z0-9]+}}: memref<0xi8>)
func.func @other() {
  %t = memref.alloc() : memref<8xi8>
  return
}
func.func @main() {
  return
}

// -----

// An input in the arena is a buffer from the start, over which work space may reach.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%{{.*}}: memref<8xi8>, %[[ARENA:.*]]: memref<12xi8>)
// CHECK-SAME: tiny.input_offsets = array<i64: 4>
// CHECK: %[[X:.*]] = memref.view %[[ARENA]][%c4]
// CHECK: %[[WORK:.*]] = memref.view %[[ARENA]][%c0]
// CHECK: call @stage(%[[X]], %{{.*}}, %[[WORK]])
func.func @main(%x: memref<8xi8>) -> memref<8xi8> attributes {tiny.input = "in-arena"} {
  %y = memref.alloc() : memref<8xi8>
  %w = memref.alloc() : memref<8xi8>
  call @stage(%x, %y, %w) : (memref<8xi8>, memref<8xi8>, memref<8xi8>) -> ()
  return %y : memref<8xi8>
}
func.func private @stage(memref<8xi8>, memref<8xi8>, memref<8xi8>)
    attributes {tiny.inputs = 1 : i64, tiny.overlap = array<i64: 0>, tiny.work_overlap = array<i64: 4>, tiny.stage = []}

// -----

// A result that is made while rows arrive waits in the arena.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: memref<8xi8>, %[[Y:.*]]: memref<8xi8>, %[[ARENA:.*]]: memref<8xi8>)
// CHECK: %[[MADE:.*]] = memref.view %[[ARENA]]
// CHECK: call @push(%[[X]], %[[MADE]])
// CHECK: %[[BYTE:.*]] = memref.load %[[MADE]]
// CHECK: memref.store %[[BYTE]], %[[Y]]
func.func @main(%x: memref<8xi8>) -> memref<8xi8> attributes {tiny.input = "streamed"} {
  %y = memref.alloc() : memref<8xi8>
  call @push(%x, %y) : (memref<8xi8>, memref<8xi8>) -> ()
  return %y : memref<8xi8>
}
func.func private @push(memref<8xi8>, memref<8xi8>)
