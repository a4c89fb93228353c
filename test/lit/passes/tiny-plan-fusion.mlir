// RUN: tinymlir-opt %s --tiny-plan-fusion | FileCheck %s
// RUN: tinymlir-opt %s --tiny-plan-fusion=input=streamed | FileCheck %s --check-prefix=STREAMED
// RUN: tinymlir-opt %s --tiny-plan-fusion=max-ram=390 | FileCheck %s --check-prefix=RAM
// RUN: tinymlir-opt %s "--tiny-plan-fusion=schemes=rows max-overhead=2" | FileCheck %s
// RUN: tinymlir-opt %s --tiny-plan-fusion=max-overhead=2 | FileCheck %s --check-prefix=OVERHEAD
// RUN: tinymlir-opt %s --tiny-plan-fusion=plan=%S/inputs/plan.json | FileCheck %s --check-prefix=PLAN

// Rows of the tensor between the two layers go through a ring; it is never whole.
// CHECK-LABEL: func.func @main
// CHECK-SAME: tiny.input = "external"
// CHECK: call @first{{.*}}tiny.stage = 0 : i64, tiny.strips = 1 : i64
// CHECK: call @second{{.*}}tiny.stage = 0 : i64, tiny.strips = 1 : i64
// STREAMED: tiny.input = "streamed"
// STREAMED: call @first{{.*}}tiny.stage = 0 : i64, tiny.strips = 1 : i64
// RAM: call @first{{.*}}tiny.stage = 0 : i64, tiny.strips = 2 : i64
// OVERHEAD: call @first{{.*}}tiny.strips = {{[2-9]}}
// A plan says where stages are.
// PLAN: tiny.input = "in-arena"
// PLAN: call @first{{.*}}tiny.cached, tiny.stage = 0 : i64, tiny.strips = 2 : i64
// PLAN: call @second{{.*}}tiny.stage = 0 : i64, tiny.strips = 2 : i64
func.func @main(%x: tensor<1x8x8x4xi8>) -> tensor<1x6x6x1xi8> {
  %a = call @first(%x) : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
  %y = call @second(%a) : (tensor<1x8x8x4xi8>) -> tensor<1x6x6x1xi8>
  return %y : tensor<1x6x6x1xi8>
}
func.func private @first(%x: tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
    attributes {tiny.layer = "first", tiny.macs = 4096 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<1x8x8x4xi8>
  %y = linalg.max ins(%x, %x : tensor<1x8x8x4xi8>, tensor<1x8x8x4xi8>) outs(%e : tensor<1x8x8x4xi8>) -> tensor<1x8x8x4xi8>
  return %y : tensor<1x8x8x4xi8>
}
func.func private @second(%x: tensor<1x8x8x4xi8>) -> tensor<1x6x6x1xi8>
    attributes {tiny.layer = "second", tiny.macs = 1296 : i64, tiny.op = "conv2d"} {
  %w = arith.constant dense<1> : tensor<1x3x3x4xi8>
  %c0 = arith.constant 0 : i32
  %e = tensor.empty() : tensor<1x6x6x1xi32>
  %i = linalg.fill ins(%c0 : i32) outs(%e : tensor<1x6x6x1xi32>) -> tensor<1x6x6x1xi32>
  %acc = linalg.conv_2d_nhwc_fhwc {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%x, %w : tensor<1x8x8x4xi8>, tensor<1x3x3x4xi8>) outs(%i : tensor<1x6x6x1xi32>) -> tensor<1x6x6x1xi32>
  %e8 = tensor.empty() : tensor<1x6x6x1xi8>
  %y = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%acc : tensor<1x6x6x1xi32>) outs(%e8 : tensor<1x6x6x1xi8>) {
  ^bb0(%a: i32, %o: i8):
    %q = arith.trunci %a : i32 to i8
    linalg.yield %q : i8
  } -> tensor<1x6x6x1xi8>
  return %y : tensor<1x6x6x1xi8>
}
