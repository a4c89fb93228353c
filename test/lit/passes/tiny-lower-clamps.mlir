// RUN: tinymlir-opt %s --tiny-lower-clamps | FileCheck %s

// Either order, and any power of two.
// CHECK-LABEL: func.func @nine_bits(
// CHECK-SAME: %[[X:[a-z0-9]+]]: i32
// CHECK: arith.maxsi
// CHECK: %[[LIMIT:.*]] = arith.constant 255 : i32
// CHECK: %[[R:.*]] = llvm.call_intrinsic "llvm.riscv.cv.alu.clip"(%[[X]], %[[LIMIT]])
// CHECK: return %[[R]]
func.func @nine_bits(%x: i32) -> i32 {
  %least = arith.constant -256 : i32
  %most = arith.constant 255 : i32
  %0 = arith.maxsi %x, %least : i32
  %1 = arith.minsi %0, %most : i32
  return %1 : i32
}

// What is brought into range stays, where something else reads it as well.
// CHECK-LABEL: func.func @read_twice(
// CHECK: arith.minsi
// CHECK: clip
func.func @read_twice(%x: i32) -> (i32, i32) {
  %least = arith.constant -128 : i32
  %most = arith.constant 127 : i32
  %0 = arith.minsi %x, %most : i32
  %1 = arith.maxsi %0, %least : i32
  return %0, %1 : i32, i32
}

// Other ranges, a maximum alone, and other types are left alone.
// CHECK-LABEL: func.func @others(
// CHECK-NOT: clip
func.func @others(%x: i32, %y: i16) -> (i32, i32, i32, i16) {
  %least = arith.constant -100 : i32
  %most = arith.constant 127 : i32
  %0 = arith.minsi %x, %most : i32
  %1 = arith.maxsi %0, %least : i32
  %zero = arith.constant 0 : i32
  %2 = arith.maxsi %0, %zero : i32
  %3 = arith.maxsi %least, %x : i32
  %short_least = arith.constant -128 : i16
  %short_most = arith.constant 127 : i16
  %4 = arith.minsi %y, %short_most : i16
  %5 = arith.maxsi %4, %short_least : i16
  return %1, %2, %3, %5 : i32, i32, i32, i16
}
