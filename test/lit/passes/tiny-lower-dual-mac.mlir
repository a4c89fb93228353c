// RUN: tinymlir-opt %s --tiny-lower-dual-mac | FileCheck %s
// RUN: tinymlir-opt %s --tiny-lower-dual-mac=dsp=true | FileCheck %s --check-prefix=DSP
// RUN: tinymlir-opt %s --tiny-lower-dual-mac=mve=true | FileCheck %s --check-prefix=MVE
// RUN: tinymlir-opt %s --tiny-lower-dual-mac=xcvsimd=true | FileCheck %s --check-prefix=XCV

// CHECK-LABEL: func.func @pair
// CHECK-NOT: tiny.
// CHECK: %[[LOW:.*]] = arith.muli
// CHECK: %[[SUM:.*]] = arith.addi %{{.*}}, %[[LOW]]
// CHECK: %[[HIGH:.*]] = arith.muli
// CHECK: arith.addi %[[SUM]], %[[HIGH]]
// DSP-LABEL: func.func @pair(
// DSP-SAME: %[[ACC:[a-z0-9]+]]: i32, %[[X:[a-z0-9]+]]: i32, %[[WORD:[a-z0-9]+]]: i32
// DSP: %[[EVEN:.*]] = llvm.call_intrinsic "llvm.arm.sxtb16"(%[[WORD]])
// DSP: llvm.call_intrinsic "llvm.arm.smlad"(%[[X]], %[[EVEN]], %[[ACC]])
func.func @pair(%acc: i32, %x: i32, %word: i32) -> i32 {
  %w = "tiny.extend_bytes"(%word) {first = 0 : i32} : (i32) -> i32
  %s = "tiny.dual_mac"(%acc, %x, %w) : (i32, i32, i32) -> i32
  return %s : i32
}

// Bytes 1 and 3 come by rotation, which the instruction does on the way.
// DSP-LABEL: func.func @odd
// DSP: %[[TURNED:.*]] = llvm.intr.fshr(
// DSP: llvm.call_intrinsic "llvm.arm.sxtb16"(%[[TURNED]])
func.func @odd(%word: i32) -> i32 {
  %w = "tiny.extend_bytes"(%word) {first = 1 : i32} : (i32) -> i32
  return %w : i32
}

// A plain multiply-accumulate stays what it is.
// CHECK-LABEL: func.func @plain
// CHECK: arith.muli
// CHECK-NEXT: arith.addi
// DSP-LABEL: func.func @plain
// DSP: arith.muli
// DSP-NEXT: arith.addi
func.func @plain(%acc: i32, %a: i32, %b: i32) -> i32 {
  %p = arith.muli %a, %b : i32
  %s = arith.addi %acc, %p : i32
  return %s : i32
}

// The difference of bytes is for the flags that it sets.
// CHECK-LABEL: func.func @most
// CHECK: llvm.intr.smax({{.*}}) : (vector<4xi8>, vector<4xi8>) -> vector<4xi8>
// DSP-LABEL: func.func @most(
// DSP-SAME: %[[X:[a-z0-9]+]]: i32, %[[Y:[a-z0-9]+]]: i32
// DSP: llvm.call_intrinsic "llvm.arm.ssub8"(%[[X]], %[[Y]])
// DSP-NEXT: llvm.call_intrinsic "llvm.arm.sel"(%[[X]], %[[Y]])
// XCV-LABEL: func.func @most(
// XCV-SAME: %[[X:[a-z0-9]+]]: i32, %[[Y:[a-z0-9]+]]: i32
// XCV: %[[MAX_B:.*]] = arith.constant 1 : i32
// XCV: llvm.call_intrinsic "llvm.riscv.cv.mac.mulhhuRN"(%[[X]], %[[Y]], %[[MAX_B]])
func.func @most(%x: i32, %y: i32) -> i32 {
  %m = "tiny.max_bytes"(%x, %y) : (i32, i32) -> i32
  return %m : i32
}

// CHECK-LABEL: func.func @dot
// CHECK: %[[PRODUCTS:.*]] = arith.muli {{.*}} : vector<16xi32>
// CHECK: vector.reduction <add>, %[[PRODUCTS]] : vector<16xi32> into i32
// MVE-LABEL: func.func @dot(
// MVE-SAME: %[[ACC:[a-z0-9]+]]: i32, %[[X:[a-z0-9]+]]: vector<16xi8>, %[[W:[a-z0-9]+]]: vector<16xi8>
// MVE: llvm.call_intrinsic "llvm.arm.mve.vmldava.v16i8"(%{{.*}}, %{{.*}}, %{{.*}}, %[[ACC]], %[[X]], %[[W]])
func.func @dot(%acc: i32, %x: vector<16xi8>, %w: vector<16xi8>) -> i32 {
  %s = "tiny.dot"(%acc, %x, %w) : (i32, vector<16xi8>, vector<16xi8>) -> i32
  return %s : i32
}

// Four products, by the stand-in of cv.sdotsp.b.
// CHECK-LABEL: func.func @quad
// CHECK: %[[PRODUCTS:.*]] = arith.muli {{.*}} : vector<4xi32>
// CHECK: vector.reduction <add>, %[[PRODUCTS]] : vector<4xi32> into i32
// XCV-LABEL: func.func @quad(
// XCV-SAME: %[[ACC:[a-z0-9]+]]: i32, %[[X:[a-z0-9]+]]: i32, %[[W:[a-z0-9]+]]: i32
// XCV: %[[SDOTSP_B:.*]] = arith.constant 1 : i32
// XCV: llvm.call_intrinsic "llvm.riscv.cv.mac.machhuRN"(%[[X]], %[[W]], %[[ACC]], %[[SDOTSP_B]])
func.func @quad(%acc: i32, %x: i32, %w: i32) -> i32 {
  %s = "tiny.quad_mac"(%acc, %x, %w) : (i32, i32, i32) -> i32
  return %s : i32
}
