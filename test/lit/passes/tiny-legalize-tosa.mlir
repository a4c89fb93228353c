// RUN: tinymlir-opt %s --split-input-file --tiny-legalize-tosa | FileCheck %s

// Padding with the zero point goes into the convolution, a transpose into the order of
// the argument, and what is added to the accumulators into the bias: 10 - 5 * (1 + 2).
// CHECK-LABEL: func.func @absorbed
// CHECK-SAME: tensor<1x2x2x2xi8> {tiny.model_shape = array<i64: 1, 2, 2, 2>, tiny.permutation = array<i64: 0, 2, 3, 1>}
// CHECK: tensor.pad %arg0 low[0, 1, 0, 0] high[0, 0, 0, 0]
// CHECK: arith.constant dense<-5> : tensor<1xi32>
// CHECK: linalg.conv_2d_nhwc_fhwc
// CHECK: tiny.layer = "conv2d", tiny.op = "conv2d"
// CHECK: rounding = "double", zero_point = -3 : i32
func.func @absorbed(%x: tensor<1x2x2x2xi8>) -> tensor<1x3x2x1xi8> {
  %w = "tosa.const"() {values = dense<[[[[1, 2]]]]> : tensor<1x1x1x2xi8>} : () -> tensor<1x1x1x2xi8>
  %b = "tosa.const"() {values = dense<4> : tensor<1xi32>} : () -> tensor<1xi32>
  %more = "tosa.const"() {values = dense<6> : tensor<1x1x1x1xi32>} : () -> tensor<1x1x1x1xi32>
  %five = "tosa.const"() {values = dense<5> : tensor<1xi8>} : () -> tensor<1xi8>
  %zero = "tosa.const"() {values = dense<0> : tensor<1xi8>} : () -> tensor<1xi8>
  %none = "tosa.const"() {values = dense<0> : tensor<1xi32>} : () -> tensor<1xi32>
  %out = "tosa.const"() {values = dense<-3> : tensor<1xi8>} : () -> tensor<1xi8>
  %m = "tosa.const"() {values = dense<1073741824> : tensor<1xi32>} : () -> tensor<1xi32>
  %s = "tosa.const"() {values = dense<36> : tensor<1xi8>} : () -> tensor<1xi8>
  %t = tosa.transpose %x {perms = array<i32: 0, 2, 3, 1>} : (tensor<1x2x2x2xi8>) -> tensor<1x2x2x2xi8>
  %around = tosa.const_shape {values = dense<[0, 0, 1, 0, 0, 0, 0, 0]> : tensor<8xindex>} : () -> !tosa.shape<8>
  %p = tosa.pad %t, %around, %five : (tensor<1x2x2x2xi8>, !tosa.shape<8>, tensor<1xi8>) -> tensor<1x3x2x2xi8>
  %a = tosa.conv2d %p, %w, %b, %five, %zero {acc_type = i32, dilation = array<i64: 1, 1>, pad = array<i64: 0, 0, 0, 0>, stride = array<i64: 1, 1>} : (tensor<1x3x2x2xi8>, tensor<1x1x1x2xi8>, tensor<1xi32>, tensor<1xi8>, tensor<1xi8>) -> tensor<1x3x2x1xi32>
  %sum = tosa.add %a, %more : (tensor<1x3x2x1xi32>, tensor<1x1x1x1xi32>) -> tensor<1x3x2x1xi32>
  %y = tosa.rescale %sum, %m, %s, %none, %out {input_unsigned = false, output_unsigned = false, per_channel = false, rounding_mode = DOUBLE_ROUND, scale32 = true} : (tensor<1x3x2x1xi32>, tensor<1xi32>, tensor<1xi8>, tensor<1xi32>, tensor<1xi8>) -> tensor<1x3x2x1xi8>
  return %y : tensor<1x3x2x1xi8>
}

// -----

// A layer is called what its operation is called.
// CHECK-LABEL: func.func @named
// CHECK: tiny.layer = "activation", tiny.op = "lookup"
func.func @named(%x: tensor<1x4xi8>) -> tensor<1x4xi8> {
  %three = "tosa.const"() {values = dense<3> : tensor<1xi8>} : () -> tensor<1xi8>
  %y = tosa.negate %x, %three, %three : (tensor<1x4xi8>, tensor<1xi8>, tensor<1xi8>) -> tensor<1x4xi8> loc("activation")
  return %y : tensor<1x4xi8>
}

// -----

// Bytes that only unsigned readers see are carried as i8, less 128.
// CHECK-LABEL: func.func @unsigned
// CHECK-SAME: tensor<1x4xi8> {tiny.model_type = "uint8", tiny.zero_point = -128 : i32}
// CHECK-SAME: -> (tensor<1x4xi8> {tiny.name = "y"})
// CHECK: arith.constant dense<{{.*}}> : tensor<256xi8>
func.func @unsigned(%x: tensor<1x4xui8>) -> (tensor<1x4xi8> {tiny.name = "y"}) {
  %middle = "tosa.const"() {values = dense<120> : tensor<1xui8>} : () -> tensor<1xui8>
  %zero = "tosa.const"() {values = dense<0> : tensor<1xi8>} : () -> tensor<1xi8>
  %m = "tosa.const"() {values = dense<1073741824> : tensor<1xi32>} : () -> tensor<1xi32>
  %s = "tosa.const"() {values = dense<31> : tensor<1xi8>} : () -> tensor<1xi8>
  %y = tosa.rescale %x, %m, %s, %middle, %zero {input_unsigned = true, output_unsigned = false, per_channel = false, rounding_mode = SINGLE_ROUND, scale32 = true} : (tensor<1x4xui8>, tensor<1xi32>, tensor<1xi8>, tensor<1xui8>, tensor<1xi8>) -> tensor<1x4xi8>
  return %y : tensor<1x4xi8>
}

// -----

// What is computed from constants is one, as the parts that it is joined with are.
// CHECK-LABEL: func.func @constants
// CHECK: arith.constant dense<{{\[\[}}-7, 2]]> : tensor<1x2xi8>
// CHECK: tensor.concat dim(1)
func.func @constants(%x: tensor<1x4xi8>) -> tensor<1x6xi8> {
  %c = "tosa.const"() {values = dense<[[120, 129]]> : tensor<1x2xui8>} : () -> tensor<1x2xui8>
  %m = "tosa.const"() {values = dense<1073741824> : tensor<1xi32>} : () -> tensor<1xi32>
  %s = "tosa.const"() {values = dense<30> : tensor<1xi8>} : () -> tensor<1xi8>
  %zero = "tosa.const"() {values = dense<0> : tensor<1xi8>} : () -> tensor<1xi8>
  %middle = "tosa.const"() {values = dense<127> : tensor<1xui8>} : () -> tensor<1xui8>
  %d = tosa.rescale %c, %m, %s, %middle, %zero {input_unsigned = true, output_unsigned = false, per_channel = false, rounding_mode = SINGLE_ROUND, scale32 = true} : (tensor<1x2xui8>, tensor<1xi32>, tensor<1xi8>, tensor<1xui8>, tensor<1xi8>) -> tensor<1x2xi8>
  %y = tosa.concat %x, %d {axis = 1 : i32} : (tensor<1x4xi8>, tensor<1x2xi8>) -> tensor<1x6xi8>
  return %y : tensor<1x6xi8>
}

// -----

// What makes no layer stays, with what it depends on; what nothing needs goes.
// CHECK-LABEL: func.func @kept
// CHECK-NOT: tosa.negate
// CHECK: tosa.reduce_max %arg0
// CHECK-NOT: tosa.negate
// CHECK: return
func.func @kept(%x: tensor<1x4xi8>) -> tensor<1x1xi8> {
  %three = "tosa.const"() {values = dense<3> : tensor<1xi8>} : () -> tensor<1xi8>
  %unused = tosa.negate %x, %three, %three : (tensor<1x4xi8>, tensor<1xi8>, tensor<1xi8>) -> tensor<1x4xi8>
  %y = tosa.reduce_max %x {axis = 1 : i32} : (tensor<1x4xi8>) -> tensor<1x1xi8>
  return %y : tensor<1x1xi8>
}

// -----

// What no window reaches need not be cut off before.
// CHECK-LABEL: func.func @cropped
// CHECK-NOT: extract_slice
// CHECK: linalg.pooling_nhwc_max {{.*}}ins(%arg0
func.func @cropped(%x: tensor<1x5x5x2xi8>) -> tensor<1x2x2x2xi8> {
  %first = tosa.const_shape {values = dense<0> : tensor<4xindex>} : () -> !tosa.shape<4>
  %size = tosa.const_shape {values = dense<[1, 4, 4, 2]> : tensor<4xindex>} : () -> !tosa.shape<4>
  %c = tosa.slice %x, %first, %size : (tensor<1x5x5x2xi8>, !tosa.shape<4>, !tosa.shape<4>) -> tensor<1x4x4x2xi8>
  %y = tosa.max_pool2d %c {kernel = array<i64: 2, 2>, pad = array<i64: 0, 0, 0, 0>, stride = array<i64: 2, 2>} : (tensor<1x4x4x2xi8>) -> tensor<1x2x2x2xi8>
  return %y : tensor<1x2x2x2xi8>
}

// -----

// Functions without TOSA, and those of several blocks, are left alone.
// CHECK-LABEL: func.func @other
// CHECK-NEXT: tensor.empty
// CHECK-NEXT: tensor.empty
// CHECK-NEXT: return
func.func @other() -> tensor<4xi8> {
  %unused = tensor.empty() : tensor<4xi8>
  %y = tensor.empty() : tensor<4xi8>
  return %y : tensor<4xi8>
}
// CHECK-LABEL: func.func @branches
// CHECK: tosa.abs
func.func @branches(%x: tensor<4xi8>) -> tensor<4xi8> {
  cf.br ^bb1
^bb1:
  %y = tosa.abs %x : (tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}
