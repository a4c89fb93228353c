// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-outline-layers -o /dev/null

// There is a network.
// expected-error@+1 {{expects a function named @main}}
module {
}

// -----

// It has a body.
// expected-error@+1 {{expects @main to have one block}}
func.func private @main(tensor<4xi8>) -> tensor<4xi8>

// -----

// It has no control flow.
// expected-error@+1 {{expects @main to have one block}}
func.func @main(%x: tensor<4xi8>) -> tensor<4xi8> {
  cf.br ^bb1
^bb1:
  return %x : tensor<4xi8>
}

// -----

// It does not give its input back.
// expected-error@+1 {{output 0 of @main is not the result of an i8 layer}}
func.func @main(%x: tensor<4xi8>) -> tensor<2x2xi8> {
  %v = tensor.expand_shape %x [[0, 1]] output_shape [2, 2] : tensor<4xi8> into tensor<2x2xi8>
  return %v : tensor<2x2xi8>
}

// -----

// It computes what it gives.
// expected-error@+1 {{output 1 of @main is not the result of an i8 layer}}
func.func @main(%x: tensor<4xi8>) -> (tensor<4xi8>, tensor<4xi8>) {
  %c = arith.constant dense<1> : tensor<4xi8>
  %y = linalg.max ins(%x, %x : tensor<4xi8>, tensor<4xi8>) outs(%c : tensor<4xi8>) -> tensor<4xi8>
  return %y, %c : tensor<4xi8>, tensor<4xi8>
}

// -----

// It gives i8 only.
// expected-error@+1 {{output 0 of @main is not the result of an i8 layer}}
func.func @main(%x: tensor<4xi32>) -> tensor<4xi32> {
  %e = tensor.empty() : tensor<4xi32>
  %y = linalg.max ins(%x, %x : tensor<4xi32>, tensor<4xi32>) outs(%e : tensor<4xi32>) -> tensor<4xi32>
  return %y : tensor<4xi32>
}
