"""Tasks on images: any data set with any model of `tasks.images.architectures`."""
