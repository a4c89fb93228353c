// RUN: tinymlir-opt %s --tiny-lower-multiply-high | FileCheck %s
// RUN: tinymlir-opt %s --tiny-lower-multiply-high=vector-bits=256 | FileCheck %s --check-prefix=LONG
// RUN: tinymlir-opt %s --tiny-lower-multiply-high=mve=true | FileCheck %s --check-prefix=MVE

// Seven lanes are computed in a group for eight, which are two registers or one.
// CHECK-LABEL: func.func @seven
// CHECK: %[[A:.*]] = vector.shuffle %arg0, %arg0 [0, 1, 2, 3, 4, 5, 6, -1]
// CHECK: vector.scalable.insert %[[A]], %{{.*}}[0] : vector<8xi32> into vector<[4]xi32>
// CHECK: %[[VL:.*]] = arith.constant 7 : i32
// CHECK: llvm.call_intrinsic "llvm.riscv.vmulh"(%{{.*}}, %{{.*}}, %{{.*}}, %[[VL]])
// CHECK: %[[R:.*]] = vector.scalable.extract %{{.*}}[0] : vector<8xi32> from vector<[4]xi32>
// CHECK: vector.shuffle %[[R]], %[[R]] [0, 1, 2, 3, 4, 5, 6] : vector<8xi32>, vector<8xi32>
// LONG-LABEL: func.func @seven
// LONG: into vector<[2]xi32>
func.func @seven(%a: vector<7xi32>, %b: vector<7xi32>) -> vector<7xi32> {
  %low, %high = arith.mulsi_extended %a, %b : vector<7xi32>
  return %high : vector<7xi32>
}

// Helium's vectors are of four, and groups of others its own matter.
// MVE-LABEL: func.func @seven
// MVE-NOT: vmulh
// MVE-LABEL: func.func @four
// MVE: %[[SIGNED:.*]] = arith.constant 0 : i32
// MVE: llvm.call_intrinsic "llvm.arm.mve.vmulh.v4i32"(%arg0, %arg1, %[[SIGNED]])
func.func @four(%a: vector<4xi32>, %b: vector<4xi32>) -> vector<4xi32> {
  %low, %high = arith.mulsi_extended %a, %b : vector<4xi32>
  return %high : vector<4xi32>
}

// Both words, and scalars, are left to other conversions.
// CHECK-LABEL: func.func @others
// CHECK-COUNT-2: arith.mulsi_extended
// CHECK-NOT: vmulh
func.func @others(%a: vector<8xi32>, %x: i32) -> (vector<8xi32>, vector<8xi32>, i32) {
  %low, %high = arith.mulsi_extended %a, %a : vector<8xi32>
  %0, %1 = arith.mulsi_extended %x, %x : i32
  return %low, %high, %1 : vector<8xi32>, vector<8xi32>, i32
}
