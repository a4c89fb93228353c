// The dialect in IRDL is enough for an mlir-opt that has never heard of it.
// REQUIRES: mlir-opt
// RUN: tinymlir-opt --dump-irdl > %t.irdl.mlir
// RUN: mlir-opt --irdl-file=%t.irdl.mlir %s | FileCheck %s
// RUN: tinymlir-opt %s | mlir-opt --irdl-file=%t.irdl.mlir --mlir-print-op-generic | tinymlir-opt | FileCheck %s
// RUN: mlir-opt --irdl-file=%t.irdl.mlir %S/inputs/irdl_invalid.mlir --verify-diagnostics --split-input-file -o /dev/null

// CHECK-LABEL: func.func @f(
// CHECK: "tiny.requantize"(%{{.*}}, %{{.*}}, %{{.*}}) {max = 127 : i32, min = -128 : i32, rounding = "nearest_even", zero_point = 3 : i32} : (i32, i32, i32) -> i8
func.func @f(%acc: i32, %multiplier: i32, %shift: i32) -> i8 {
  %q = "tiny.requantize"(%acc, %multiplier, %shift) {zero_point = 3 : i32, min = -128 : i32,
         max = 127 : i32, rounding = "nearest_even"} : (i32, i32, i32) -> i8
  return %q : i8
}
