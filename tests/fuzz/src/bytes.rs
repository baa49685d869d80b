//! The two queues of bytes, beside a plain vector that has to hold the same.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::buffer::Buffer;
use crate::queue::{Piece, Queue};

/// Acts on a [`Buffer`] as the pairs of bytes in `data` say.
pub fn byte_queue(data: &[u8]) {
    let (mut buffer, mut model, mut next) = (Buffer::default(), VecDeque::new(), 0u8);
    for act in data.chunks_exact(2) {
        let size = usize::from(act[1]);
        match act[0] % 3 {
            0 => {
                let bytes = fresh(&mut next, size);
                buffer.push(&bytes);
                model.extend(bytes);
            }
            1 => {
                let bytes = fresh(&mut next, size / 2);
                buffer.room(size)[..bytes.len()].copy_from_slice(&bytes);
                buffer.filled(bytes.len());
                model.extend(bytes);
            }
            _ => {
                let count = size.min(buffer.len());
                buffer.consume(count);
                model.drain(..count);
            }
        }
        assert_eq!(buffer.as_slice(), model.make_contiguous());
        assert_eq!((buffer.len(), buffer.is_empty()), (model.len(), model.is_empty()));
    }
}

/// Acts on two [`Queue`]s, one of which is now and then put behind the other.
pub fn send_queue(data: &[u8]) {
    let (mut queues, mut models, mut next) = ([Queue::default(), Queue::default()], [Vec::new(), Vec::new()], 0u8);
    for act in data.chunks_exact(2) {
        let (size, which) = (usize::from(act[1]), usize::from(act[0] >> 7));
        let (queue, model) = (&mut queues[which], &mut models[which]);
        match act[0] & 0x7f {
            120.. => {
                queue.clear();
                model.clear();
            }
            110.. => {
                let [first, second] = &mut queues;
                first.append(second);
                let rest = std::mem::take(&mut models[1]);
                models[0].extend(rest);
            }
            kind if kind % 3 == 0 => {
                let bytes = fresh(&mut next, size);
                queue.push(Piece::Own(&bytes));
                model.extend(bytes);
            }
            kind if kind % 3 == 1 => {
                let bytes = fresh(&mut next, size);
                let start = size.min(usize::from(kind));
                queue.push(Piece::Shared(&Arc::from(&bytes[..]), 0).skip(start));
                model.extend_from_slice(&bytes[start..]);
            }
            _ => {
                let count = size.min(queue.front().len());
                assert_eq!(queue.front()[..count], model[..count]);
                queue.consume(count);
                model.drain(..count);
            }
        }
        for (queue, model) in queues.iter().zip(&models) {
            assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
            assert_eq!(queue.front().is_empty(), model.is_empty());
        }
    }
    for (queue, model) in queues.iter_mut().zip(models) {
        let mut out = Vec::new();
        while !queue.is_empty() {
            out.extend_from_slice(queue.front());
            queue.consume(queue.front().len());
        }
        assert_eq!(out, model);
    }
}

fn fresh(next: &mut u8, count: usize) -> Vec<u8> {
    (0..count).map(|_| std::mem::replace(next, next.wrapping_add(1))).collect()
}
