// RUN: tinymlir-opt %s --split-input-file --tiny-lower-requantize --canonicalize | FileCheck %s
// RUN: tinymlir-opt %s --split-input-file --tiny-lower-requantize=lanes=true --canonicalize | FileCheck %s --check-prefix=LANES
// RUN: tinymlir-opt %s --split-input-file --tiny-lower-requantize=mac-high=true --canonicalize | FileCheck %s --check-prefix=WORD

// The high word, the half, the shift.
// CHECK-LABEL: func.func @up
// CHECK: arith.mulsi_extended
// CHECK-NEXT: arith.addi
// CHECK-NEXT: arith.shrsi
// CHECK-NEXT: arith.minsi
// CHECK-NEXT: arith.maxsi
// CHECK-NEXT: arith.trunci
// CHECK-NEXT: return
func.func @up(%acc: i32) -> i8 {
  %m = arith.constant 1431655765 : i32
  %s = arith.constant 40 : i32
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// A multiplier with leading zeros and a small shift is the same scale as one without:
// 3 / 2^2 = (3 << 29) / 2^31. The accumulator is clamped, then shifted up by 33 - 31.
// CHECK-LABEL: func.func @small_shift
// CHECK-DAG: %[[M:.*]] = arith.constant 1610612736 : i32
// CHECK-DAG: %[[LIMIT:.*]] = arith.constant 536870911 : i32
// CHECK-DAG: %[[UP:.*]] = arith.constant 2 : i32
// CHECK: arith.minsi %{{.*}}, %[[LIMIT]]
// CHECK: %[[A:.*]] = arith.shli %{{.*}}, %[[UP]]
// CHECK: arith.mulsi_extended %[[A]], %[[M]]
func.func @small_shift(%acc: i32) -> i8 {
  %m = arith.constant 3 : i32
  %s = arith.constant 2 : i32
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Ties to even take one off where nothing is left of the product.
// CHECK-LABEL: func.func @even
// CHECK: %[[LOW:.*]], %{{.*}} = arith.mulsi_extended
// CHECK: arith.cmpi eq, %[[LOW]]
// CHECK: arith.subi
func.func @even(%acc: i32) -> i8 {
  %m = arith.constant 1431655765 : i32
  %s = arith.constant 40 : i32
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_even"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Near a tie a routine that all share looks closer.
// CHECK: func.func private @round_near_tie
// CHECK: %[[CLOSE:.*]] = arith.cmpi ult
// CHECK-NEXT: scf.if %[[CLOSE]]
// CHECK-LABEL: func.func @float
// CHECK: scf.if
// CHECK-NEXT: call @round_near_tie
// CHECK: scf.if
// CHECK-NEXT: call @round_near_tie
// CHECK-NOT: func.func
func.func @float(%a: i32, %b: i32) -> (i8, i8) {
  %m = arith.constant 1431655680 : i32
  %s = arith.constant 40 : i32
  %p = "tiny.requantize"(%a, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "float32"} : (i32, i32, i32) -> i8
  %q = "tiny.requantize"(%b, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "float32"} : (i32, i32, i32) -> i8
  return %p, %q : i8, i8
}

// -----

// Multipliers and shifts of channels come from tables. All shifts of these are large: the
// accumulator needs no clamp.
memref.global "private" constant @multipliers : memref<2xi32> = dense<[1073741824, 5]>
memref.global "private" constant @shifts : memref<2xi32> = dense<[40, 33]>
// CHECK-LABEL: func.func @table
// CHECK-SAME: (%[[ACC:.*]]: i32, %
// CHECK: arith.mulsi_extended %[[ACC]], %
func.func @table(%acc: i32, %c: index) -> i8 {
  %multipliers = memref.get_global @multipliers : memref<2xi32>
  %shifts = memref.get_global @shifts : memref<2xi32>
  %m = memref.load %multipliers[%c] : memref<2xi32>
  %s = memref.load %shifts[%c] : memref<2xi32>
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Only a channel whose shift is small needs a large multiplier.
memref.global "private" constant @multipliers : memref<2xi32> = dense<[1073741824, 5]>
memref.global "private" constant @shifts : memref<2xi32> = dense<[32, 62]>
// CHECK-LABEL: func.func @mixed
// CHECK: %[[UP:.*]] = arith.maxsi
// CHECK: %[[A:.*]] = arith.shli %{{.*}}, %[[UP]]
// CHECK: arith.mulsi_extended %[[A]], %
func.func @mixed(%acc: i32, %c: index) -> i8 {
  %multipliers = memref.get_global @multipliers : memref<2xi32>
  %shifts = memref.get_global @shifts : memref<2xi32>
  %m = memref.load %multipliers[%c] : memref<2xi32>
  %s = memref.load %shifts[%c] : memref<2xi32>
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_up"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// TFLite's two roundings ask nothing of multiplier and shift.
// CHECK-LABEL: func.func @double
// CHECK: arith.shli %arg0
// CHECK: arith.mulsi_extended
// CHECK: arith.shrsi
// CHECK-NOT: tiny.requantize
func.func @double(%acc: i32, %m: i32, %s: i32) -> i8 {
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "double"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Where all shifts are known to exceed 31, nothing is scaled up.
// CHECK-LABEL: func.func @double_shrinks
// CHECK-NOT: arith.shli %arg0
// CHECK: arith.mulsi_extended %arg0
func.func @double_shrinks(%acc: i32, %m: i32, %s: i32) -> i8 {
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "double", tiny.shrinks} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// A module without requantization keeps its shape: no routine is added.
// CHECK-LABEL: module
// CHECK-NEXT: func.func @plain
// CHECK-NEXT: arith.muli
// CHECK-NEXT: return
// CHECK-NOT: func.func
func.func @plain(%a: i32) -> i32 {
  %y = arith.muli %a, %a : i32
  return %y : i32
}

// -----

// A line is added up in 64 bits; of the sum only the high word is shifted.
// CHECK-LABEL: func.func @line
// CHECK: arith.mulsi_extended
// CHECK: %[[SUM:.*]] = arith.addi %{{.*}}, %{{.*}} : i64
// CHECK: %[[HIGH:.*]] = arith.shr{{[su]}}i %[[SUM]], %{{.*}} : i64
// CHECK: arith.trunci %[[HIGH]] : i64 to i32
// CHECK-NEXT: arith.shrsi
// CHECK-NEXT: arith.minsi
// CHECK-NEXT: arith.maxsi
// CHECK-NEXT: arith.trunci
func.func @line(%acc: i32, %m: i32, %offset: i64) -> i8 {
  %q = "tiny.rescale"(%acc, %m, %offset) {shift = 40 : i32, min = -128 : i32, max = 127 : i32} : (i32, i32, i64) -> i8
  return %q : i8
}

// -----

// One shift for all: the fraction's bits in the high word tell whether a tie is near.
// CHECK-LABEL: func.func @one_shift
// CHECK: %[[LINE:.*]] = arith.addi
// CHECK: %[[FRACTION:.*]] = arith.andi %[[LINE]]
// CHECK: arith.cmpi eq, %[[FRACTION]]
// CHECK: llvm.intr.expect
// CHECK: call @round_near_tie
func.func @one_shift(%acc: i32, %m: i32) -> i8 {
  %s = arith.constant 40 : i32
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 3 : i32, min = -128 : i32, max = 127 : i32, rounding = "float32"} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Scaled up by the places that there are, so that fewer are near a tie.
// CHECK-LABEL: func.func @headroom
// CHECK-SAME: %[[ACC:.*]]: i32, %[[M:.*]]: i32
// CHECK: %[[UP:.*]] = arith.shli %[[ACC]]
// CHECK: arith.mulsi_extended %[[UP]], %[[M]]
// CHECK: call @round_near_tie(%[[UP]], %[[M]]
func.func @headroom(%acc: i32, %m: i32) -> i8 {
  %s = arith.constant 36 : i32
  %q = "tiny.requantize"(%acc, %m, %s) {zero_point = 3 : i32, min = -128 : i32, max = 127 : i32, rounding = "float32", tiny.headroom = 5 : i32} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// In the body of a linalg op, with tables that it reads: where nothing is near a tie both words
// of the product tell, as for lanes, or the high one alone.
// CHECK-LABEL: func.func @tables
// CHECK: linalg.generic
// CHECK-NOT: arith.shrui
// CHECK: scf.if
// CHECK: arith.trunci
// LANES-LABEL: func.func @tables
// LANES: linalg.generic
// LANES: arith.shrui
// LANES: scf.if
// LANES: arith.trunci
#id = affine_map<(d0) -> (d0)>
func.func @tables(%acc: tensor<4xi32>) -> tensor<4xi8> {
  %m = arith.constant dense<[1073741824, 1610612736, 1342177280, 1207959552]> : tensor<4xi32>
  %s = arith.constant dense<[45, 46, 45, 47]> : tensor<4xi32>
  %e = tensor.empty() : tensor<4xi8>
  %q = linalg.generic {indexing_maps = [#id, #id, #id, #id], iterator_types = ["parallel"]}
      ins(%acc, %m, %s : tensor<4xi32>, tensor<4xi32>, tensor<4xi32>) outs(%e : tensor<4xi8>) {
  ^bb0(%a: i32, %mc: i32, %sc: i32, %unused: i8):
    %r = "tiny.requantize"(%a, %mc, %sc) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "float32"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<4xi8>
  return %q : tensor<4xi8>
}

// -----

// One accumulator is taken for the next.
// CHECK-LABEL: func.func @step_over(
// CHECK-SAME: %[[ACC:.*]]: i32, %[[LATE:.*]]: i32)
// CHECK: %[[IS:.*]] = arith.cmpi eq, %[[ACC]], %[[LATE]]
// CHECK: %[[ONE:.*]] = arith.extui %[[IS]] : i1 to i32
// CHECK: arith.addi %[[ACC]], %[[ONE]]
func.func @step_over(%acc: i32, %late: i32) -> i32 {
  %next = "tiny.step_over"(%acc, %late) : (i32, i32) -> i32
  return %next : i32
}

// -----

// An offset of whole words needs no 64 bits.
// CHECK-LABEL: func.func @whole_words
// CHECK: arith.mulsi_extended
// CHECK-NEXT: arith.addi %{{.*}} : i32
// CHECK-NEXT: arith.shrsi %{{.*}} : i32
func.func @whole_words(%acc: i32) -> i8 {
  %m = arith.constant 1431655765 : i32
  %o = arith.constant 128 : i32
  %q = "tiny.rescale"(%acc, %m, %o) {shift = 40 : i32, min = -128 : i32, max = 127 : i32} : (i32, i32, i32) -> i8
  return %q : i8
}

// -----

// Cores that add the high word to a register have an offset there, once for several.
// WORD-LABEL: func.func @several
// WORD: %[[OFFSET:.*]] = llvm.inline_asm has_side_effects "", "=r,0" %{{.*}} : (i32) -> i32
// WORD: arith.addi %{{.*}}, %[[OFFSET]]
// WORD: arith.addi %{{.*}}, %[[OFFSET]]
// WORD: arith.addi %{{.*}}, %[[OFFSET]]
// WORD-NOT: llvm.inline_asm
// WORD: return
func.func @several(%a: i32, %b: i32, %c: i32, %m: i32) -> (i8, i8, i8) {
  %offset = arith.constant -4080 : i32
  %0 = "tiny.rescale"(%a, %m, %offset) {max = 127 : i32, min = -128 : i32, shift = 37 : i32} : (i32, i32, i32) -> i8
  %1 = "tiny.rescale"(%b, %m, %offset) {max = 127 : i32, min = -128 : i32, shift = 37 : i32} : (i32, i32, i32) -> i8
  %2 = "tiny.rescale"(%c, %m, %offset) {max = 127 : i32, min = -128 : i32, shift = 37 : i32} : (i32, i32, i32) -> i8
  return %0, %1, %2 : i8, i8, i8
}

// -----

// Two of them are not worth it.
// WORD-LABEL: func.func @two
// WORD-NOT: llvm.inline_asm
// WORD: return
func.func @two(%a: i32, %b: i32, %m: i32) -> (i8, i8) {
  %offset = arith.constant -4080 : i32
  %0 = "tiny.rescale"(%a, %m, %offset) {max = 127 : i32, min = -128 : i32, shift = 37 : i32} : (i32, i32, i32) -> i8
  %1 = "tiny.rescale"(%b, %m, %offset) {max = 127 : i32, min = -128 : i32, shift = 37 : i32} : (i32, i32, i32) -> i8
  return %0, %1 : i8, i8
}
