//! The process that works on one image, and ends. Whoever starts it has locked it up before.

use std::io::{self, Read, Write};

use crate::decode::{decode, info};
use crate::draw::draw;
use crate::encode::encode;
use crate::error::ImagesError;
use crate::job::{self, Answer, Job, Plan, Task};
use crate::operations::Step;
use crate::picture::Picture;

/// Reads a job, does it and writes the answer. An error is one of the pipes: nobody is there any more.
pub fn work(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let job: Job = job::read(&mut from)?;
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    let mut rest = bytes.as_slice();
    let mut images = Vec::new();
    for length in &job.lengths {
        let (image, after) = rest.split_at_checked(*length).ok_or(io::ErrorKind::UnexpectedEof)?;
        images.push(image);
        rest = after;
    }
    let done = match &job.task {
        Task::Info => {
            images.first().ok_or_else(ImagesError::internal).and_then(|image| info(image)).map(Done::Told)
        }
        Task::Transform(plan) => transform(&images, plan).map(Done::Made),
    };
    match done {
        Ok(Done::Told(info)) => job::write(&mut to, &Answer::Info(info), &[]),
        Ok(Done::Made(image)) => job::write(&mut to, &Answer::Image, &image),
        Err(error) => job::write(&mut to, &Answer::Failed(error), &[]),
    }
}

enum Done {
    Told(job::Info),
    Made(Vec<u8>),
}

/// Does all steps in their order. Images are decoded when they are first needed, and go when they were drawn.
fn transform(images: &[&[u8]], plan: &Plan) -> Result<Vec<u8>, ImagesError> {
    let mut pictures: Vec<Option<Picture>> = Vec::new();
    pictures.resize_with(images.len(), || None);
    let open = |pictures: &mut Vec<Option<Picture>>, index: usize| -> Result<Picture, ImagesError> {
        let bytes = images.get(index).ok_or_else(ImagesError::internal)?;
        // Only the canvas can move.
        let animated = index == 0 && plan.animated && plan.format.is_animated();
        match pictures.get_mut(index).and_then(Option::take) {
            Some(picture) => Ok(picture),
            None => decode(bytes, animated),
        }
    };
    for step in &plan.steps {
        match step {
            Step::Transform { image, transform } => {
                let mut picture = open(&mut pictures, *image)?;
                picture.transform(transform)?;
                pictures[*image] = Some(picture);
            }
            Step::Draw { image, onto, draw: how } => {
                let top = open(&mut pictures, *image)?;
                let mut canvas = open(&mut pictures, *onto)?;
                draw(&mut canvas, top, how)?;
                pictures[*onto] = Some(canvas);
            }
        }
    }
    encode(open(&mut pictures, 0)?, plan)
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
