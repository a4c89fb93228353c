// RUN: tinymlir-opt %s --tiny-share-kernels | FileCheck %s

// Two layers are the same whatever they are called; others, and functions that are no convolutions,
// keep what they have.
// CHECK: func.func private @layer0{{.*}}tiny.kernel = "swar"{{.*}}cycles = 5
// CHECK: func.func private @layer1{{.*}}tiny.kernel = "direct"{{.*}}cycles = 7
// CHECK: func.func private @layer2(%{{.*}}: tensor<2xi8>) -> tensor<2xi8> {
// CHECK: func.func private @other{{.*}}tiny.kernel = "swar"{{.*}}cycles = 5
// CHECK: func.func private @layer1{{.*}}tiny.kernel = "im2col"{{.*}}cycles = 6
module {
  module {
    func.func private @layer0(%x: tensor<2xi8>) -> tensor<2xi8>
        attributes {tiny.kernel = "swar", tiny.price = {cycles = 5 : i64}} {
      return %x : tensor<2xi8>
    }
    func.func private @layer1(%x: tensor<3xi8>) -> tensor<3xi8>
        attributes {tiny.kernel = "direct", tiny.price = {cycles = 7 : i64}} {
      return %x : tensor<3xi8>
    }
    func.func private @layer2(%x: tensor<2xi8>) -> tensor<2xi8> {
      return %x : tensor<2xi8>
    }
  }
  module {
    func.func private @other(%x: tensor<2xi8>) -> tensor<2xi8>
        attributes {tiny.kernel = "direct", tiny.price = {cycles = 9 : i64}} {
      return %x : tensor<2xi8>
    }
    func.func private @layer1(%x: tensor<4xi8>) -> tensor<4xi8>
        attributes {tiny.kernel = "im2col", tiny.price = {cycles = 6 : i64}} {
      return %x : tensor<4xi8>
    }
  }
}
