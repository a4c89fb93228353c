// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-legalize-tosa -o /dev/null

// TOSA networks have one sample.
func.func @batch(%x: tensor<2x2x2x1xi8>) -> tensor<2x1x1x1xi8> {
  // expected-error@+1 {{'tosa.max_pool2d' op: a batch of 2; export the network for one sample}}
  %y = tosa.max_pool2d %x {kernel = array<i64: 2, 2>, pad = array<i64: 0, 0, 0, 0>, stride = array<i64: 1, 1>} : (tensor<2x2x2x1xi8>) -> tensor<2x1x1x1xi8>
  return %y : tensor<2x1x1x1xi8>
}

// -----

// Scales are constants.
func.func @scale(%x: tensor<1x4xi8>, %m: tensor<1xi32>) -> tensor<1x4xi8> {
  %s = "tosa.const"() {values = dense<31> : tensor<1xi8>} : () -> tensor<1xi8>
  %zero = "tosa.const"() {values = dense<0> : tensor<1xi8>} : () -> tensor<1xi8>
  // expected-error@+1 {{'tosa.rescale' op takes constant scales only}}
  %y = tosa.rescale %x, %m, %s, %zero, %zero {input_unsigned = false, output_unsigned = false, per_channel = false, rounding_mode = SINGLE_ROUND, scale32 = true} : (tensor<1x4xi8>, tensor<1xi32>, tensor<1xi8>, tensor<1xi8>, tensor<1xi8>) -> tensor<1x4xi8>
  return %y : tensor<1x4xi8>
}

// -----

// So are zero points.
func.func @zero(%x: tensor<1x4xi8>, %zero: tensor<1xi8>) -> tensor<1x4xi8> {
  %m = "tosa.const"() {values = dense<1073741824> : tensor<1xi32>} : () -> tensor<1xi32>
  %s = "tosa.const"() {values = dense<31> : tensor<1xi8>} : () -> tensor<1xi8>
  // expected-error@+1 {{'tosa.rescale' op takes constant zero points only}}
  %y = tosa.rescale %x, %m, %s, %zero, %zero {input_unsigned = false, output_unsigned = false, per_channel = false, rounding_mode = SINGLE_ROUND, scale32 = true} : (tensor<1x4xi8>, tensor<1xi32>, tensor<1xi8>, tensor<1xi8>, tensor<1xi8>) -> tensor<1x4xi8>
  return %y : tensor<1x4xi8>
}

// -----

// Their bounds are those of the specification.
func.func @shift(%x: tensor<1x4xi8>) -> tensor<1x4xi8> {
  %m = "tosa.const"() {values = dense<1073741824> : tensor<1xi32>} : () -> tensor<1xi32>
  %s = "tosa.const"() {values = dense<63> : tensor<1xi8>} : () -> tensor<1xi8>
  %zero = "tosa.const"() {values = dense<0> : tensor<1xi8>} : () -> tensor<1xi8>
  // expected-error@+1 {{'tosa.rescale' op takes shifts of 2 to 62 and multipliers that are not negative}}
  %y = tosa.rescale %x, %m, %s, %zero, %zero {input_unsigned = false, output_unsigned = false, per_channel = false, rounding_mode = SINGLE_ROUND, scale32 = true} : (tensor<1x4xi8>, tensor<1xi32>, tensor<1xi8>, tensor<1xi8>, tensor<1xi8>) -> tensor<1x4xi8>
  return %y : tensor<1x4xi8>
}

// -----

// A tensor is signed or unsigned.
func.func @both(%x: tensor<1x4xi8>) -> tensor<1x8xi8> {
  %m = "tosa.const"() {values = dense<1073741824> : tensor<1xi32>} : () -> tensor<1xi32>
  %s = "tosa.const"() {values = dense<31> : tensor<1xi8>} : () -> tensor<1xi8>
  %zero = "tosa.const"() {values = dense<0> : tensor<1xi8>} : () -> tensor<1xi8>
  %u = tosa.rescale %x, %m, %s, %zero, %zero {input_unsigned = true, output_unsigned = false, per_channel = false, rounding_mode = SINGLE_ROUND, scale32 = true} : (tensor<1x4xi8>, tensor<1xi32>, tensor<1xi8>, tensor<1xi8>, tensor<1xi8>) -> tensor<1x4xi8>
  // expected-error@+1 {{'tosa.concat' op reads an unsigned tensor as signed}}
  %y = tosa.concat %x, %u {axis = 1 : i32} : (tensor<1x4xi8>, tensor<1x4xi8>) -> tensor<1x8xi8>
  return %y : tensor<1x8xi8>
}

// -----

// The same where the reader stays TOSA.
func.func @kept(%x: tensor<1x4xui8>) -> tensor<1x1xui8> {
  // expected-error@+1 {{'tosa.reduce_max' op reads an unsigned tensor as signed}}
  %y = tosa.reduce_max %x {axis = 1 : i32} : (tensor<1x4xui8>) -> tensor<1x1xui8>
  return %y : tensor<1x1xui8>
}
