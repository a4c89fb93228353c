// RUN: tinymlir-opt %s --split-input-file --tiny-fold-tables | FileCheck %s

#id = affine_map<(d0) -> (d0)>

// x * f(x), scaled: the product of a byte and what a table has for it. The name stays.
// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: tensor<4xi8>)
// CHECK: %[[TABLE:.*]] = arith.constant dense<{{.*}}> : tensor<256xi8>
// CHECK-NOT: tiny.requantize
// CHECK: linalg.generic {{.*}} ins(%[[X]] : tensor<4xi8>)
// CHECK-SAME: tiny.layer = "swish"
// CHECK-SAME: tiny.op = "lookup"
// CHECK: tensor.extract %[[TABLE]]
// CHECK-NOT: linalg.generic
func.func @main(%x: tensor<4xi8>) -> tensor<4xi8> {
  %table = arith.constant dense<3> : tensor<256xi8>
  %low = arith.constant -128 : i32
  %m = arith.constant 1431655765 : i32
  %s = arith.constant 31 : i32
  %e = tensor.empty() : tensor<4xi8>
  %t = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]}
      ins(%x : tensor<4xi8>) outs(%e : tensor<4xi8>) attrs = {tiny.layer = "sigmoid", tiny.op = "lookup"} {
  ^bb0(%a: i8, %unused: i8):
    %w = arith.extsi %a : i8 to i32
    %d = arith.subi %w, %low : i32
    %i = arith.index_cast %d : i32 to index
    %r = tensor.extract %table[%i] : tensor<256xi8>
    linalg.yield %r : i8
  } -> tensor<4xi8>
  %y = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%x, %t : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) attrs = {tiny.layer = "swish", tiny.op = "mul"} {
  ^bb0(%a: i8, %b: i8, %unused: i8):
    %aw = arith.extsi %a : i8 to i32
    %bw = arith.extsi %b : i8 to i32
    %p = arith.muli %aw, %bw : i32
    %r = "tiny.requantize"(%p, %m, %s) {zero_point = 0 : i32, min = -128 : i32, max = 127 : i32, rounding = "nearest_even"} : (i32, i32, i32) -> i8
    linalg.yield %r : i8
  } -> tensor<4xi8>
  return %y : tensor<4xi8>
}

// -----

#id = affine_map<(d0) -> (d0)>

// Two tensors; and a layer whose operand another reads too, so that x would live longer.
// CHECK-LABEL: func.func @main
// CHECK-COUNT-3: linalg.generic
// CHECK-NOT: tensor.extract
func.func @main(%x: tensor<4xi8>, %z: tensor<4xi8>) -> (tensor<4xi8>, tensor<4xi8>) {
  %one = arith.constant 1 : i8
  %e = tensor.empty() : tensor<4xi8>
  %h = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]}
      ins(%x : tensor<4xi8>) outs(%e : tensor<4xi8>) {
  ^bb0(%a: i8, %unused: i8):
    %r = arith.maxsi %a, %one : i8
    linalg.yield %r : i8
  } -> tensor<4xi8>
  %u = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]}
      ins(%h : tensor<4xi8>) outs(%e : tensor<4xi8>) {
  ^bb0(%a: i8, %unused: i8):
    %r = arith.subi %a, %one : i8
    linalg.yield %r : i8
  } -> tensor<4xi8>
  %y = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%h, %z : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) {
  ^bb0(%a: i8, %b: i8, %unused: i8):
    %r = arith.maxsi %a, %b : i8
    linalg.yield %r : i8
  } -> tensor<4xi8>
  return %u, %y : tensor<4xi8>, tensor<4xi8>
}
